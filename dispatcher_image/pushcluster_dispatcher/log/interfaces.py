"""What appending to a user's log, and the barrier behind it, need of Redis."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_runtime.redis.wire import Reply

Sleep = Callable[[float], Awaitable[None]]

OnPart = Callable[[Mapping[int, Appended | AppendRefused]], Awaitable[None]]


class Wire(Protocol):
    """One connection to one life of Redis (`RedisWire`)."""

    @property
    def run_id(self) -> str:
        """Which life."""

    async def execute(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send packed commands in one write and return their replies; raises Unavailable when the connection goes."""


class WireSource(Protocol):
    """Where to get a connection from (`RedisLink`)."""

    async def wire(self) -> Wire:
        """Return a living connection, waiting for one if need be."""
