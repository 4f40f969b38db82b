"""One batch of deliveries: what stands in it, and its copies. No I/O of its own."""

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pushcluster_contract.headers import POSSIBLY_REPEATED
from pushcluster_dispatcher.ingress.interfaces import CopySink
from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_dispatcher.messages import Message, RejectClass, Rejection, parse_delivery
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.hops import Hop, Trace

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """A batch that has begun and is not acknowledged yet."""

    last_tag: int
    received: int
    """How many deliveries it has."""
    accepted: Sequence[Delivery]
    messages: Sequence[Message]
    """What stands in the accepted deliveries, in the same order."""
    malformed: Sequence[tuple[Delivery, Rejection]]
    counted: bool = False
    """Whether it has been counted in the metrics: once, however often it is appended."""
    put_aside: set[int] = field(default_factory=set)
    """The tags of what is in `push.rejected`, so that nothing goes there twice."""
    traces: Mapping[int, Trace] = field(default_factory=dict)
    """What times the hops of the messages that are followed, by position."""

    @classmethod
    def of(cls, deliveries: Sequence[Delivery], traces: Mapping[int, Trace] | None = None) -> "Batch":
        """Parse deliveries, of which there is at least one. `traces` are those of some, by delivery tag."""
        accepted: list[Delivery] = []
        messages: list[Message] = []
        malformed: list[tuple[Delivery, Rejection]] = []
        for delivery in deliveries:
            parsed = parse(delivery)
            if isinstance(parsed, Message):
                accepted.append(delivery)
                messages.append(_mark_repeated(delivery, parsed))
            else:
                malformed.append((delivery, parsed))
        batch = cls(deliveries[-1].tag, len(deliveries), accepted, messages, malformed)
        if traces:
            batch.traces = {n: traces[each.tag] for n, each in enumerate(accepted) if each.tag in traces}
            for n, trace in batch.traces.items():
                messages[n] = messages[n]._replace(trace=trace)
        return batch

    def reached(self, hop: Hop, positions: Container[int] | None = None) -> None:
        """Note that a hop ends for the messages that are followed: for all of them, or for those at `positions`."""
        for n, trace in self.traces.items():
            if positions is None or n in positions:
                trace.reached(hop)

    def name_attempts(self, channel_token: int) -> list[bytes]:
        """Return the names of the attempts to append the messages. They stay the same, however often it is tried.

        `channel_token` is the first fencing token of the channel. Nobody had it before, and tags do not repeat.
        """
        return [b"%d-%d" % (channel_token, delivery.tag) for delivery in self.accepted]

    def sort_out(
        self, results: Sequence[Appended | AppendRefused]
    ) -> tuple[list[tuple[Message, Appended]], list[tuple[Delivery, Rejection]]]:
        """Return what the log took, and all that is rejected, malformed or by the log."""
        appended: list[tuple[Message, Appended]] = []
        rejected = list(self.malformed)
        for delivery, message, result in zip(self.accepted, self.messages, results, strict=True):
            if isinstance(result, Appended):
                appended.append((message, result))
            else:
                rejected.append((delivery, _reject(result)))
        return appended, rejected


class BatchCopies:
    """The copies of one batch. Each is handed over once, whether Redis takes the batch at once or in parts."""

    def __init__(self, messages: Sequence[Message], sink: CopySink, partition: int) -> None:
        self._messages = messages
        self._sink = sink
        self._partition = partition
        self.in_log: dict[int, tuple[Message, Appended]] = {}
        """What the parts had, by position."""
        self.outcomes: list[asyncio.Future[None]] = []
        """What the sink gave: nothing has to be waited for any more once all of them have resolved."""

    async def send_part(self, part: Mapping[int, Appended | AppendRefused]) -> None:
        """Hand over what is in the log now. It must not wait with what Redis has no memory for."""
        in_log = {n: (self._messages[n], result) for n, result in part.items() if isinstance(result, Appended)}
        if in_log:
            self.in_log.update(in_log)
            await self._send(list(in_log.values()))

    async def send_rest(self, appended: Sequence[tuple[Message, Appended]]) -> None:
        """Hand over what no part had: as a rule, that is all."""
        handed_over = {id(message) for message, _ in self.in_log.values()}  # by `id`: two messages may be equal
        await self._send([pair for pair in appended if id(pair[0]) not in handed_over] if handed_over else appended)

    async def _send(self, in_log: Sequence[tuple[Message, Appended]]) -> None:
        self.outcomes += await self._sink.send(self._partition, in_log)


def parse(delivery: Delivery) -> Message | Rejection:
    """Parse, and reject what parsing fails on: such a message must not come back for ever and block all others."""
    try:
        return parse_delivery(delivery)
    except Exception as error:
        _log.exception("the dispatcher failed to read a message; it goes to push.rejected")
        return Rejection(RejectClass.PROPERTIES, f"the dispatcher failed on it: {type(error).__name__}: {error}")


def _mark_repeated(delivery: Delivery, message: Message) -> Message:
    """Mark what another channel may have appended before it was lost. By a message id it would be known."""
    if not delivery.redelivered or message.message_id:
        return message
    return message._replace(headers={**(message.headers or {}), POSSIBLY_REPEATED: "true"})


def _reject(refused: AppendRefused) -> Rejection:
    return Rejection(RejectClass.MESSAGE_ID if refused.other_body else RejectClass.SCRIPT, refused.reason)
