"""When the next batch of a partition may begin: at once at an everyday rate, together with others when much comes.

Most of what a batch costs does not depend on its size: a round trip to Redis and its fsync, an AMQP message to a
gateway, and a wake-up of each program on the way. When messages come quickly, the batches of all partitions therefore
begin together, JOIN_S after the first of them was ready.
"""

import asyncio
from typing import Final

JOIN_ABOVE_PER_S: Final = 300
"""Messages a second of one dispatcher. With more, batches begin together."""
JOIN_S: Final = 0.004
"""How long the first message waits for others."""
WINDOW_S: Final = 0.05
"""Messages are counted in windows of this length, or longer if nothing comes."""


class AppendPace:
    """The pace of all partitions of one dispatcher."""

    def __init__(self) -> None:
        self._began_s = float("-inf")
        self._seen = 0
        self._is_fast = False
        self._beginning: asyncio.Event | None = None
        """Set when the batches begin that wait now."""

    def count(self, now_s: float) -> None:
        """Count a message that has come. `now_s` is in steady seconds."""
        elapsed_s = now_s - self._began_s
        if elapsed_s >= WINDOW_S:
            self._is_fast = self._seen > JOIN_ABOVE_PER_S * elapsed_s
            self._began_s, self._seen = now_s, 0
        self._seen += 1

    async def turn(self) -> None:
        """Return when a batch may begin whose first message has come."""
        if not self._is_fast:
            return
        if self._beginning is None:
            self._beginning = asyncio.Event()
            asyncio.get_running_loop().call_later(JOIN_S, self._begin)
        await self._beginning.wait()

    def _begin(self) -> None:
        beginning, self._beginning = self._beginning, None
        if beginning is not None:
            beginning.set()
