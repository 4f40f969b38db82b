"""What a partition needs from Redis and AMQP. Tests and the simulation implement it too."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_dispatcher.log.interfaces import HeldWire, OnPart
from pushcluster_dispatcher.messages import Message, Rejection
from pushcluster_runtime.amqp import Delivery


class RedisLost(Exception):
    """A Redis connection is lost, or Redis has restarted. What it was asked to do may be done or not."""


class CopiesLost(Exception):
    """The connection for copies is lost. Those that were not confirmed may have arrived or not."""


class LogAppender(Protocol):
    """Users' logs (`UserLog`)."""

    async def append(
        self, messages: Sequence[Message], attempts: Sequence[bytes], on_part: OnPart
    ) -> list[Appended | AppendRefused]:
        """Append in order, and return the result for each.

        Raise Unavailable when the connection is lost, and StaleToken when another consumer has appended since.

        Whenever the rest has to wait, `on_part` gets the results since its last call, by position.
        """

    async def keep_ids(self, messages: Sequence[Message]) -> None:
        """Keep the known ids of these messages known for another whole window. Raise Unavailable."""


class RequestBarrier(Protocol):
    """Asks for the disk (`Barrier.request`), for the run of Redis that has appended."""

    def __call__(self, *, urgent: bool = True) -> asyncio.Future[None]:
        """Return a future that resolves when all that was appended by now is on disk."""


@dataclass(frozen=True, slots=True)
class FencedLog:
    """The users' logs of a partition, over one Redis connection and with one fencing token."""

    token: int
    log: LogAppender
    request_barrier: RequestBarrier


class LogSource(Protocol):
    """What opens the users' logs for one channel (`FencedLogs`)."""

    async def wire(self) -> HeldWire:
        """Return a connection to Redis. Wait until there is one."""

    async def open(self, wire: HeldWire) -> FencedLog:
        """Take a fencing token. Raise RedisLost, or Unavailable if the channel is gone."""


class CopySink(Protocol):
    """What sends copies to gateways (`CopyPublisher`)."""

    async def wait_connected(self) -> asyncio.Future[str]:
        """Wait until there is a connection for copies. Return the future that resolves when it is lost."""

    async def send(self, partition: int, appended: Sequence[tuple[Message, Appended]]) -> list[asyncio.Future[None]]:
        """Publish a partition's copies in the order of the log.

        The futures resolve when there is nothing more to wait for. They fail with Unavailable when the connection is
        lost.
        """


class RejectSink(Protocol):
    """What sends malformed messages to `push.rejected` (`RejectPublisher`)."""

    async def put(self, delivery: Delivery, rejection: Rejection) -> None:
        """Return once the message is in `push.rejected`."""


class ReportSink(Protocol):
    """What sends outcomes to producers (`OutcomePublisher`)."""

    def tell(self, address: ReplyAddress, report: OutcomeReport) -> None:
        """Send one outcome, without waiting."""


class AckChannel(Protocol):
    """The channel that a partition is consumed on (`AmqpChannel`)."""

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all deliveries up to it."""
