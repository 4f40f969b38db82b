"""STOMP clients that other people wrote, each behind a small program that does as its standard input says.

Orders and events are JSON, one a line. Orders: `connect` (url, token, heartBeat in ms), `subscribe` (headers, receipt),
`ack` and `nack` (message: its number, from 0, over all connections), `disconnect` (receipt). Events have `event`
(`connected`, `receipt`, `message`, `error` or `closed`), `headers` and `body`. A program ends with its standard input.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local_cluster.fingerprint import fingerprint
from local_cluster.process import run
from local_cluster.settings import current_places
from tests.support.waiting import WITHIN_S

SOURCES: Final = Path(__file__).parents[1] / "conformance" / "clients"


@dataclass(frozen=True, slots=True)
class ClientProgram:
    """How one client is built and started."""

    name: str
    needs: str
    """The tool that builds and runs it, as its command is called."""
    build: tuple[str, ...]
    command: Callable[[Path], Sequence[str]]
    """What starts it, given the folder in which it was built."""
    confirms_subscribe: bool = True
    """False: the client cannot ask for SUBSCRIBE's RECEIPT."""
    confirms_disconnect: bool = True
    """False: the client tells nobody of DISCONNECT's RECEIPT."""


STOMPJS: Final = ClientProgram(
    "stompjs", "npm", ("npm", "ci", "--silent"), lambda folder: ("node", str(folder / "main.js"))
)
STOMP_PY: Final = ClientProgram(
    "stomp-py", sys.executable, ("true",), lambda folder: (sys.executable, "-X", "utf8", str(folder / "main.py"))
)
GO_STOMP: Final = ClientProgram(
    "go-stomp",
    "go",
    ("go", "build", "-trimpath", "-buildvcs=false", "-o", "client", "."),
    lambda folder: (str(folder / "client"),),
    confirms_subscribe=False,
    confirms_disconnect=False,
)
SPRING: Final = ClientProgram(
    "spring",
    "mvn",
    ("mvn", "-q", "-B", "compile", "dependency:copy-dependencies", "-DoutputDirectory=lib", "-DincludeScope=runtime"),
    lambda folder: (
        *("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"),
        *("-cp", f"{folder}/target/classes:{folder}/lib/*", "dev.pushcluster.conformance.Main"),
    ),
    confirms_disconnect=False,
)
PROGRAMS: Final = (STOMPJS, STOMP_PY, GO_STOMP, SPRING)


def built(program: ClientProgram) -> Path:
    """Return the folder in which the program is built, after building it if its sources are new.

    Fails with a sentence when its tool is not there.
    """
    assert shutil.which(program.needs), f"the client {program.name} needs {program.needs}: install it and try again"
    places, source = current_places(), SOURCES / program.name
    folder = places.cache / "conformance" / f"{program.name}-{fingerprint(*program.build, paths=_sources(source))}"
    if not folder.is_dir():
        partial = folder.with_suffix(f".{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns("node_modules", "target", "lib", "__pycache__"))
        environment = {**os.environ, "GOWORK": "off", "GOFLAGS": "", "CGO_ENABLED": "0"}
        log = places.log(f"conformance-{program.name}")
        run(program.build, log=log, what=f"Building the client {program.name}", cwd=partial, env=environment)
        partial.rename(folder)
    return folder


def _sources(source: Path) -> list[Path]:
    return sorted(path for path in source.iterdir() if path.name not in {"node_modules", "target", "lib"})


@dataclass
class Event:
    """What a program told."""

    event: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    def __getitem__(self, header: str) -> str:
        return self.headers[header]


class RunningClient:
    """A program that obeys."""

    def __init__(self, program: ClientProgram, process: asyncio.subprocess.Process) -> None:
        self.program = program
        self._process = process
        self._unread: list[Event] = []

    async def order(self, command: str, **options: object) -> None:
        """Have it do something; what comes of it is told by events."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **options}).encode() + b"\n")
        await self._process.stdin.drain()

    async def expect(self, event: str) -> Event:
        """Return the next event of this kind; others keep until they are asked for, but an error fails at once."""
        for each in self._unread:
            if each.event == event:
                self._unread.remove(each)
                return each
        async with asyncio.timeout(WITHIN_S):
            while (told := await self._next()).event != event:
                assert told.event != "error", f"{self.program.name}: {told}"
                self._unread.append(told)
        return told

    async def expect_many(self, event: str, count: int) -> list[Event]:
        return [await self.expect(event) for _ in range(count)]

    async def _next(self) -> Event:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"{self.program.name} has ended"
        return Event(**json.loads(line))


@asynccontextmanager
async def running_client(program: ClientProgram) -> AsyncIterator[RunningClient]:
    """Start the program, and end it with the block."""
    folder = await asyncio.to_thread(built, program)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*program.command(folder), stdin=pipe, stdout=pipe)
    try:
        yield RunningClient(program, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
