"""The processes of a benchmark: start them, send them commands, measure what they cost, and always end them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.child import MAX_LINE_BYTES
from benchmarks.measure import ProcessTimes

PROC: Final = Path("/proc")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class ChildFailed(Exception):
    """A child answered with an error, or ended."""


class Child:
    """One process that answers commands. Make it with `started`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def call(self, do: str, **arguments: object) -> Any:
        """Send one command and return the answer. Raises ChildFailed."""
        writer, reader = self._process.stdin, self._process.stdout
        if writer is None or reader is None:
            raise ChildFailed(f"{self.name} has no pipes")
        writer.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
        if not line:
            raise ChildFailed(f"{self.name} ended during {do!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise ChildFailed(f"{self.name}, {do!r}:\n{answer['error']}")
        return answer["value"]


@asynccontextmanager
async def started(module: str, name: str) -> AsyncIterator[Child]:
    """Run `python -m <module>` as a child process until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
    )
    try:
        yield Child(name, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def cpu_of(pid: int) -> float:
    """Return the processor seconds of a process and of all its living descendants."""
    return sum(max(_cpu_ticks(each) / TICKS_PER_S, _threads_cpu_s(each)) for each in (pid, *_descendants(pid)))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process."""
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES


def sample(pids: Mapping[str, int]) -> ProcessTimes:
    """Return the processor time that each named process and its descendants have used so far."""
    return ProcessTimes({name: cpu_of(pid) for name, pid in pids.items()})


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the state on, because the name before it may contain anything."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields is not None else 0


def _threads_cpu_s(pid: int) -> float:
    """Return the processor seconds of the threads that live, to the nanosecond. Ticks are of 10 ms."""
    used_ns = 0
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in (PROC / str(pid) / "task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                used_ns += int((task / "schedstat").read_text().split()[0])
    return used_ns / 1e9


def _descendants(pid: int) -> list[int]:
    parents = {
        int(path.name): int(fields[1])
        for path in PROC.iterdir()
        if path.name.isdigit() and (fields := _stat(int(path.name))) is not None
    }
    found: list[int] = []
    todo = [pid]
    while todo:
        current = todo.pop()
        children = [each for each, parent in parents.items() if parent == current]
        found += children
        todo += children
    return found
