"""How many bytes of copies one partition may have under way. No I/O."""

import asyncio
from typing import Final

MAX_COPY_BYTES_IN_FLIGHT: Final = 1_048_576
"""Bytes of copies of one partition that the broker has not confirmed. Beyond it, that partition waits.

The 16 partitions together have at most 16 MiB and one copy each, of the pod's 256 MiB. It is not more, because all
copies share one connection: this is also what a busy partition can put before a copy of another one.
"""


class CopyBudget:
    """The copies of one partition that are under way."""

    __slots__ = ("_capacity", "_held_bytes")

    def __init__(self) -> None:
        self._held_bytes = 0
        self._capacity = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """Bytes of copies that the broker has not confirmed."""
        return self._held_bytes

    @property
    def is_used_up(self) -> bool:
        """Whether the next copy has to wait."""
        return self._held_bytes >= MAX_COPY_BYTES_IN_FLIGHT

    def take(self, size: int) -> None:
        """Note a copy that is under way."""
        self._held_bytes += size

    def release(self, size: int) -> None:
        """Note that copies of this size are no longer under way."""
        self._held_bytes -= size
        if not self.is_used_up:
            self._capacity.set()

    def wake(self) -> None:
        """End the wait, so that the partition looks again whether it still has to wait."""
        self._capacity.set()

    async def wait(self) -> None:
        """Wait until there is capacity, or until `wake`."""
        self._capacity.clear()
        await self._capacity.wait()
