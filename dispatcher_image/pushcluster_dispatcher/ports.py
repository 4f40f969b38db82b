"""What the steps of the message path need of Redis and AMQP: all that a test or a simulation has to play."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from pika.spec import BasicProperties

from pushcluster_dispatcher.log_entries import Appended, Refused
from pushcluster_dispatcher.parse import Message
from pushcluster_runtime.amqp import Outcome
from pushcluster_runtime.redis_wire import Reply

Sleep = Callable[[float], Awaitable[None]]


class Wire(Protocol):
    """One connection to one life of Redis (`RedisWire`)."""

    @property
    def run_id(self) -> str:
        """Which life."""

    async def execute(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send packed commands in one write and return their replies; raises Unavailable when the connection goes."""


class Link(Protocol):
    """Where to get a connection from (`RedisLink`)."""

    async def wire(self) -> Wire:
        """Return a living connection, waiting for one if need be."""


class Log(Protocol):
    """Users' logs (`Locations`)."""

    async def append(self, messages: Sequence[Message]) -> list[Appended | Refused]:
        """Append in order and return what became of each; raises Unavailable when the connection goes."""


class Publisher(Protocol):
    """What sends copies (`AmqpChannel`)."""

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[Outcome]:
        """Publish, and tell the outcome later."""


class Channel(Publisher, Protocol):
    """What a partition is consumed over (`AmqpChannel`)."""

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it."""
