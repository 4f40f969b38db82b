"""What the steps of the message path need of Redis and AMQP: all that a test or a simulation has to play."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from pika.spec import BasicProperties

from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_dispatcher.messages import Message, Rejection
from pushcluster_runtime.amqp.connection import ConfirmOutcome, Delivery, Template
from pushcluster_runtime.redis.wire import Reply

Sleep = Callable[[float], Awaitable[None]]


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


OnPart = Callable[[Mapping[int, Appended | AppendRefused]], Awaitable[None]]


class LogAppender(Protocol):
    """Users' logs (`Locations`)."""

    async def append(self, messages: Sequence[Message], on_part: OnPart) -> list[Appended | AppendRefused]:
        """Append in order and return what became of each; raises Unavailable when the connection goes.

        `on_part` gets what has been settled so far, by position, whenever the rest has to wait.
        """

    async def keep_ids(self, messages: Sequence[Message]) -> None:
        """Have the ids that are known of these messages stay known for a whole window more; raises Unavailable."""


class Publisher(Protocol):
    """What sends copies and rejected messages (`AmqpChannel`)."""

    lost: asyncio.Future[str]

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | Template,
        *,
        mandatory: bool,
    ) -> asyncio.Future[ConfirmOutcome]:
        """Publish, and tell the outcome later."""


class CopySink(Protocol):
    """Step D4 (`Copies`)."""

    async def send(self, appended: Sequence[tuple[Message, Appended]]) -> list[asyncio.Future[None]]:
        """Hand over copies in the order of the log; the futures resolve when nothing has to be waited for any more."""


class RejectSink(Protocol):
    """Step D1 (`Rejects`)."""

    async def put(self, delivery: Delivery, rejection: Rejection) -> None:
        """Return once a message stands in `push.rejected`; raises Unavailable when it is not taken there."""


class ReportSink(Protocol):
    """What producers are told (`Reports`)."""

    def tell(self, address: ReplyAddress, report: OutcomeReport) -> None:
        """Send one outcome, without waiting for anything."""


class AckChannel(Protocol):
    """What a partition is consumed over (`AmqpChannel`)."""

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it."""
