"""Clients without a key that ask a dispatcher's HTTP API again and again, in a process of their own (see `child.py`).

Each connects, sends a request, reads to the end, and comes again at once.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from benchmarks.child import Handler, run

REQUEST: Final = (
    b"POST /v1/users/alice/messages?destination=/queue/demo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
)


class Strangers:
    """The commands of this child process."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._answers: dict[str, int] = {}

    async def start(self, *, port: int, clients: int) -> None:
        """Begin to ask."""
        self._answers = {}
        self._tasks = [asyncio.create_task(self._ask(port)) for _ in range(clients)]

    async def stop(self) -> Mapping[str, int]:
        """Stop, and return how many answers of each status came. Without an answer, the status is empty."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._answers

    async def _ask(self, port: int) -> None:
        while True:
            answer = b""
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(REQUEST)
                    answer = await reader.read()
                finally:
                    writer.close()
            status = answer[9:12].decode(errors="replace")
            self._answers[status] = self._answers.get(status, 0) + 1


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    strangers = Strangers()
    return {handler.__name__: handler for handler in (strangers.start, strangers.stop)}


if __name__ == "__main__":
    run(make_handlers)
