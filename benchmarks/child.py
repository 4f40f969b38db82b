"""What runs inside a process that a benchmark starts. It reads and answers JSON lines until its stdin ends."""

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvloop

Handler = Callable[..., Awaitable[Any]]
"""Takes the command's arguments by name. Returns a value that JSON can carry."""

MAX_LINE_BYTES = 64 * 1_048_576
"""The latencies of a whole run come back in one line."""


def cpu_s() -> float:
    """Return the processor seconds that this process has used, more precisely than /proc does."""
    return time.process_time()


def run(make_handlers: Callable[[], Awaitable[Mapping[str, Handler]]]) -> None:
    """Serve commands until stdin ends. If a command fails, the error goes to the parent and the process lives on."""
    uvloop.run(_serve(make_handlers))


async def _serve(make_handlers: Callable[[], Awaitable[Mapping[str, Handler]]]) -> None:
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    handlers = await make_handlers()
    while line := await reader.readline():
        command = json.loads(line)
        try:
            answer = {"value": await handlers[command.pop("do")](**command)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
