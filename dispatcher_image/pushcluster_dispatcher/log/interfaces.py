"""What the users' logs and the durability barrier need from Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_runtime.redis.wire import Reply

Sleep = Callable[[float], Awaitable[None]]

OnPart = Callable[[Mapping[int, Appended | AppendRefused]], Awaitable[None]]


class Wire(Protocol):
    """One connection to one run of Redis (`RedisWire`)."""

    @property
    def run_id(self) -> str:
        """Which run of Redis this is. A restarted Redis has another run id."""

    async def execute(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send packed commands in one write, and return their replies. Raise Unavailable if the connection is lost."""


class HeldWire(Wire, Protocol):
    """The same, with its end."""

    @property
    def lost(self) -> asyncio.Future[str]:
        """Resolves with the reason when the connection ends."""


class WireSource(Protocol):
    """What keeps a connection to Redis (`RedisLink`)."""

    async def wire(self) -> Wire:
        """Return a connection that is not lost. Wait until there is one."""


class HeldWireSource(Protocol):
    """The same, for whoever has to know when the connection ends."""

    async def wire(self) -> HeldWire:
        """Return a connection that is not lost. Wait until there is one."""
