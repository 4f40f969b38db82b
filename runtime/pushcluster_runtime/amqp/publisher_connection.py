"""A connection for publishing only, which reconnects after every loss.

When the broker is short of memory or disk, it stops reading from connections that publish. Everything else on such a
connection (acknowledgements, declarations) then hangs too, so publishers have a connection of their own.
"""

import asyncio
import logging
from collections.abc import Callable

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.topology import Topology
from pushcluster_runtime.amqp.channel import AmqpChannel
from pushcluster_runtime.amqp.connection import AmqpConnection
from pushcluster_runtime.backoff import Backoff

_log = logging.getLogger(__name__)


class PublisherConnection:
    """Keeps one channel in confirm mode while `run` runs."""

    on_open: Callable[[], None]
    """Called when the broker takes messages, for the first time or again."""
    on_closed: Callable[[], None]
    """Called when it no longer does: the connection is lost, or the broker does not read from it."""

    def __init__(self, url: str, *, name: str, topology: Topology, backoff: Backoff) -> None:
        """`topology` is declared first: a publish to a missing exchange would close the channel for all publishes."""
        self._url = url
        self._name = name
        self._topology = topology
        self._backoff = backoff
        self._amqp: AmqpConnection | None = None
        self._channel: AmqpChannel | None = None
        self._connected = asyncio.Event()
        self._opened = asyncio.Event()
        self.on_open = self.on_closed = lambda: None
        self.trouble = "not connected to RabbitMQ yet"
        """Why nothing can be published now, in words. Empty while it can."""

    @property
    def channel(self) -> AmqpChannel | None:
        """The channel to publish on. None while the broker takes no messages."""
        return None if self._amqp is None or self._amqp.blocked else self._connected_channel

    @property
    def blocked(self) -> bool:
        """Whether there is a connection that the broker does not read from (memory or disk alarm)."""
        return self._connected_channel is not None and self._amqp is not None and self._amqp.blocked

    @property
    def is_connected(self) -> bool:
        """Whether `wait_connected` returns at once."""
        return self._connected_channel is not None

    async def wait_connected(self) -> AmqpChannel:
        """Wait until there is a connection, and return its channel. The broker may still block publishers."""
        while (channel := self._connected_channel) is None:
            self._connected.clear()
            await self._connected.wait()
        return channel

    async def wait_writable(self) -> AmqpChannel:
        """Wait until the broker takes messages, and return the channel."""
        while (channel := self.channel) is None:
            self._opened.clear()
            await self._opened.wait()
        return channel

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            try:
                await self._hold_connection()
            except Unavailable as error:
                self._set_trouble(str(error))
            await asyncio.sleep(self._backoff.next_delay_s())

    async def _hold_connection(self) -> None:
        amqp = await AmqpConnection.connect(self._url, name=self._name)
        try:
            channel = await amqp.channel(confirm=True)
            await channel.declare(self._topology)
            self._amqp, self._channel = amqp, channel
            amqp.on_blocked = self._on_blocked
            self._backoff.reset()
            self._connected.set()
            self._on_blocked(amqp.blocked)
            raise Unavailable(f"RabbitMQ: {await asyncio.shield(channel.lost)}")
        finally:
            was_there, self._amqp, self._channel = self._channel is not None, None, None
            if was_there:
                self.on_closed()
            await amqp.close()

    @property
    def _connected_channel(self) -> AmqpChannel | None:
        channel = self._channel
        return None if channel is None or channel.lost.done() else channel

    def _on_blocked(self, blocked: bool) -> None:  # noqa: FBT001 - AmqpConnection.on_blocked
        if blocked:
            self._set_trouble("RabbitMQ takes no messages now (memory or disk alarm)")
            self.on_closed()
        else:
            self.trouble = ""
            self._opened.set()
            self.on_open()

    def _set_trouble(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning("nothing can be published now", extra={"connection": self._name, "reason": trouble})
        self.trouble = trouble
