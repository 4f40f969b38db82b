"""What a partition needs of Redis and AMQP: all that a test or a simulation has to play."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_dispatcher.log.interfaces import OnPart
from pushcluster_dispatcher.messages import Message, Rejection
from pushcluster_runtime.amqp.connection import Delivery


class LogAppender(Protocol):
    """Users' logs (`UserLog`)."""

    async def append(self, messages: Sequence[Message], on_part: OnPart) -> list[Appended | AppendRefused]:
        """Append in order and return what became of each; raises Unavailable when the connection goes.

        `on_part` gets what has been settled so far, by position, whenever the rest has to wait.
        """

    async def keep_ids(self, messages: Sequence[Message]) -> None:
        """Have the ids that are known of these messages stay known for a whole window more; raises Unavailable."""


class CopySink(Protocol):
    """What sends copies to gateways (`CopyPublisher`)."""

    async def send(self, appended: Sequence[tuple[Message, Appended]]) -> list[asyncio.Future[None]]:
        """Hand over copies in the order of the log; the futures resolve when nothing has to be waited for any more."""


class RejectSink(Protocol):
    """What puts malformed messages aside (`RejectPublisher`)."""

    async def put(self, delivery: Delivery, rejection: Rejection) -> None:
        """Return once a message stands in `push.rejected`; raises Unavailable when it is not taken there."""


class ReportSink(Protocol):
    """What producers are told (`OutcomePublisher`)."""

    def tell(self, address: ReplyAddress, report: OutcomeReport) -> None:
        """Send one outcome, without waiting for anything."""


class AckChannel(Protocol):
    """What a partition is consumed over (`AmqpChannel`)."""

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it."""
