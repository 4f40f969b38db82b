"""The nodes of the peer in `peers/centrifuge`: build the program once, run it as processes, and remove what it kept."""

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import ProcessTimes
from benchmarks.plane import Program, Services
from benchmarks.processes import sample
from local_cluster.errors import CannotContinue
from local_cluster.fingerprint import fingerprint
from local_cluster.process import run
from local_cluster.settings import current_places
from local_run.containers import free_port
from pushcluster_runtime.redis.client import connect

SOURCES: Final = Path(__file__).parent / "peers" / "centrifuge"
LIBRARY: Final = "github.com/centrifugal/centrifuge"
BUILD: Final = ("go", "build", "-trimpath", "-buildvcs=false", "-o", "centrifuge", ".")
KEYS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Setting:
    """How the nodes are set up."""

    history: bool
    """Whether messages are kept in Redis. Otherwise Redis only passes them on."""
    lean: bool = False
    """Whether the WebSocket handler's options that save memory are on."""
    ping_s: int = 0
    """How often a node pings each client; 0: never."""


def parse_version(go_mod: str) -> str:
    """Return the version of the library that a go.mod requires."""
    (version,) = re.findall(rf"^require {re.escape(LIBRARY)} (\S+)$", go_mod, re.MULTILINE)
    return str(version)


def build_program() -> Path:
    """Return the program, after compiling it if its sources are new.

    Raises CannotContinue if there is no Go, or if the compiler fails.
    """
    if shutil.which("go") is None:
        raise CannotContinue(
            "The peer Centrifuge is compiled here, which needs Go 1.26 or later. Install it, and run it again."
        )
    places = current_places()
    folder = places.cache / "peers" / f"centrifuge-{fingerprint(*BUILD, paths=[SOURCES])}"
    if not folder.is_dir():
        print("Compiling the peer Centrifuge (once, usually 1 to 3 minutes)", flush=True)
        partial = folder.with_suffix(f".{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(SOURCES, partial)
        environment = {**os.environ, "GOWORK": "off", "GOFLAGS": "", "CGO_ENABLED": "0"}
        run(BUILD, log=places.log("peer-centrifuge"), what="Compiling Centrifuge", cwd=partial, env=environment)
        partial.rename(folder)
    return folder / "centrifuge"


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes that run."""

    services: Services
    programs: Mapping[str, Program]

    @property
    def ports(self) -> list[int]:
        """Of their WebSockets and of publishing over HTTP."""
        return [program.ws_port for program in self.programs.values()]

    def times(self) -> ProcessTimes:
        """Return the processor time of everything that a message passes: Redis and the nodes."""
        pids = {name: program.pid for name, program in self.programs.items()}
        return sample({"redis": self.services.pids["redis"], **pids})


@asynccontextmanager
async def running_nodes(services: Services, setting: Setting, *, nodes: int) -> AsyncIterator[Nodes]:
    """Run nodes on the benchmark's Redis until the end of the block. They are ready when it begins."""
    program = await asyncio.to_thread(build_program)
    prefix = f"centrifuge{secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_remove_keys, services, prefix)
        programs = {
            name: await stack.enter_async_context(_running(program, services, setting, prefix, name))
            for name in (f"node-{number}" for number in range(nodes))
        }
        await asyncio.gather(*(each.wait_ready() for each in programs.values()))
        yield Nodes(services, programs)


@asynccontextmanager
async def _running(
    program: Path, services: Services, setting: Setting, prefix: str, name: str
) -> AsyncIterator[Program]:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "LISTEN": f"127.0.0.1:{port}",
        "REDIS_URL": services.redis_url,
        "PREFIX": prefix,
        "HISTORY": str(setting.history).lower(),
        "LEAN": str(setting.lean).lower(),
        "PING_SECONDS": str(setting.ping_s),
    }
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            program, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield Program(name, process, port, port, log, Path())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _remove_keys(services: Services, prefix: str) -> None:
    async with connect(services.redis_url, name="benchmark") as client:
        keys = [key async for key in client.scan_iter(match=f"{prefix}*", count=KEYS_AT_ONCE)]
        for begin in range(0, len(keys), KEYS_AT_ONCE):
            await client.unlink(*keys[begin : begin + KEYS_AT_ONCE])
