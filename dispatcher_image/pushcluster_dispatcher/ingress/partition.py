"""One ingress partition: take batches, append them, send copies, wait for the durability barrier, acknowledge.

A session has one AMQP channel and one Redis connection, and lasts as long as both. When either is lost, or a barrier
fails, the channel is closed. Messages that were not acknowledged then come back in order, to this dispatcher or another
one. Idempotency absorbs what was done already.

Idempotency has a window. The ids of messages under way are kept in it, because a message may wait longer than that when
Redis is out of memory or RabbitMQ has an alarm.

A session also ends, without a failure, when its prefetch does not fit the size of its messages. What a session holds is
bounded in bytes, and quorum queues know no prefetch in bytes.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES
from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_dispatcher.ingress.interfaces import (
    AckChannel,
    CopySink,
    LogAppender,
    RejectSink,
    ReportSink,
)
from pushcluster_dispatcher.ingress.ledger import Ledger, Step
from pushcluster_dispatcher.ingress.outcome_reports import plan_rejection, plan_reports
from pushcluster_dispatcher.ingress.prefetch import MessageSizes
from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_dispatcher.messages import (
    Message,
    RejectClass,
    Rejection,
    parse_delivery,
)
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.tasks import cancel

KEPT_TIMES_A_WINDOW: Final = 4
"""How often the ids of messages under way are kept within one window, so that one failure does not matter."""
KEPT_WITHIN_S: Final = 10.0
"""At least once in this time, so that short sessions, one after the other, keep them too."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionServices:
    """What all partitions share."""

    copies: CopySink
    rejects: RejectSink
    reports: ReportSink
    metrics: Metrics
    now_ms: Callable[[], int]
    """Ms since the epoch."""


@dataclass(frozen=True, slots=True)
class _BatchInFlight:
    """A batch that is appended and not acknowledged yet."""

    last_tag: int
    rejected: Sequence[tuple[Delivery, Rejection]]
    copied: Sequence[asyncio.Future[None]]
    reports: Sequence[tuple[ReplyAddress, OutcomeReport]]
    """The outcomes to send once the batch is on disk."""
    barrier: asyncio.Future[None]


class _BatchCopies:
    """The copies of one batch. Each is handed over once, whether Redis takes the batch at once or in parts."""

    def __init__(self, messages: Sequence[Message], sink: CopySink, partition: int) -> None:
        self._messages = messages
        self._sink = sink
        self._partition = partition
        self._handed_over: set[int] = set()
        """`id` of each message that a part had: two messages may be equal."""
        self.outcomes: list[asyncio.Future[None]] = []
        """What the sink gave: nothing has to be waited for any more once all of them have resolved."""

    async def send_part(self, part: Mapping[int, Appended | AppendRefused]) -> None:
        """Hand over what is in the log now. It must not wait with what Redis has no memory for."""
        in_log = [(self._messages[n], result) for n, result in part.items() if isinstance(result, Appended)]
        self._handed_over.update(id(message) for message, _ in in_log)
        await self._send(in_log)

    async def send_rest(self, appended: Sequence[tuple[Message, Appended]]) -> None:
        """Hand over what no part had: as a rule, that is all."""
        handed_over = self._handed_over
        await self._send([pair for pair in appended if id(pair[0]) not in handed_over] if handed_over else appended)

    async def _send(self, in_log: Sequence[tuple[Message, Appended]]) -> None:
        self.outcomes += await self._sink.send(self._partition, in_log)


class PartitionSession:
    """The work on one partition over one channel. `receive` is the consumer's callback."""

    def __init__(
        self,
        channel: AckChannel,
        log: LogAppender,
        services: PartitionServices,
        *,
        request_barrier: Callable[[], asyncio.Future[None]],
        ids_window_s: float,
        number: int,
        prefetch: int = DISPATCHER_PREFETCH_MESSAGES,
    ) -> None:
        """`number` is that of the partition, 0 to 15."""
        self._channel = channel
        self._log = log
        self._copies = services.copies
        self._rejects = services.rejects
        self._reports = services.reports
        self._now_ms = services.now_ms
        self._metrics = services.metrics
        self._request_barrier = request_barrier
        self._ids_window_s = ids_window_s
        self._number = number
        self._ledger = Ledger()
        self._acknowledged_tag = 0
        # The batches that the ledger has open, in the same order.
        self._begun: deque[tuple[int, list[Message]]] = deque()
        # Bounded by the channel's prefetch and by `MessageSizes`, because nothing in here is acknowledged.
        self._inbox: deque[Delivery] = deque()
        self._sizes = MessageSizes(prefetch)
        self._woken = asyncio.Event()
        self._finishing = False

    @property
    def wanted_prefetch(self) -> int | None:
        """The prefetch for the next session, when this one ends because its own does not fit. Else None."""
        return self._sizes.wanted_prefetch

    def receive(self, delivery: Delivery) -> None:
        """Take one delivery. From the first that does not fit, none is taken: they come again to the next session."""
        if self._sizes.take(delivery.tag, len(delivery.body) + len(delivery.raw_properties or b"")):
            self._inbox.append(delivery)
        if not self._woken.is_set():
            self._woken.set()

    def finish(self) -> None:
        """Take no further batch. `run` then returns when all that has begun is acknowledged."""
        self._finishing = True
        self._woken.set()

    async def run(self) -> None:
        """Work until `finish`, or until there is a `wanted_prefetch`. Return when all that was taken is acknowledged.

        Raise an ExceptionGroup of Unavailable when the session is broken.
        """
        keeping = asyncio.create_task(self._keep_ids())
        try:
            async with asyncio.TaskGroup() as settling:
                while batch := await self._next_batch():
                    self._ledger.begin(batch[0].tag, batch[-1].tag)
                    flight = await self._process(batch)
                    settling.create_task(self._settle(flight))
        finally:
            await cancel(keeping)

    async def _keep_ids(self) -> None:
        """Keep the ids of unacknowledged messages in the idempotency window, whichever session appended them."""
        while True:
            await asyncio.sleep(min(self._ids_window_s / KEPT_TIMES_A_WINDOW, KEPT_WITHIN_S))
            under_way = [message for _, messages in self._begun for message in messages]
            under_way += [each for delivery in self._inbox if isinstance(each := _parse(delivery), Message)]
            with suppress(Unavailable):  # the session ends with its connection, see `_run_until_broken`
                await self._log.keep_ids(under_way)

    async def _next_batch(self) -> list[Delivery]:
        """Return what has arrived, at least one delivery. Return [] when finishing, or when no more are taken."""
        while not self._inbox and not self._finishing and self._sizes.wanted_prefetch is None:
            self._woken.clear()
            await self._woken.wait()
        batch: list[Delivery] = []
        if self._finishing:
            return batch
        batch.extend(self._inbox)  # bounded by `MessageSizes` and the prefetch
        self._inbox.clear()
        return batch

    async def _process(self, batch: list[Delivery]) -> _BatchInFlight:
        """Append a batch to the users' logs, hand over its copies, and ask for the barrier that covers it."""
        accepted, messages, rejected = _sort_out(batch)
        self._begun.append((batch[-1].tag, messages))
        copies = _BatchCopies(messages, self._copies, self._number)
        results = await self._append(messages, copies)
        # Asked for after the last answer: a barrier that began earlier would not cover this batch.
        barrier = self._request_barrier()
        appended: list[tuple[Message, Appended]] = []
        for delivery, message, result in zip(accepted, messages, results, strict=True):
            if isinstance(result, Appended):
                appended.append((message, result))
            else:
                rejected.append((delivery, _reject(result)))
        self._count(len(batch), [entry for _, entry in appended], rejected)
        reports = plan_reports(appended, self._now_ms)
        await copies.send_rest(appended)
        return _BatchInFlight(batch[-1].tag, rejected, copies.outcomes, reports, barrier)

    async def _append(self, messages: Sequence[Message], copies: _BatchCopies) -> Sequence[Appended | AppendRefused]:
        """Return what became of each message at the log. While some have to wait, the copies of the others are sent."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        results = await self._log.append(messages, copies.send_part) if messages else []
        self._metrics.append_seconds.observe(loop.time() - started)
        return results

    async def _settle(self, flight: _BatchInFlight) -> None:
        """Wait until every step of a batch is done, and acknowledge it. Raise Unavailable."""
        if flight.rejected:
            await asyncio.gather(*(self._rejects.put(*each) for each in flight.rejected))
            for each in flight.rejected:
                rejection = plan_rejection(*each)
                if rejection is not None:
                    self._reports.tell(*rejection)
        self._mark(flight.last_tag, Step.APPENDED)
        for copied in flight.copied:
            await copied
        self._mark(flight.last_tag, Step.COPIED)
        await flight.barrier
        self._mark(flight.last_tag, Step.DURABLE)
        for address, report in flight.reports:
            self._reports.tell(address, report)

    def _mark(self, last_tag: int, step: Step) -> None:
        tag = self._ledger.mark(last_tag, step)
        if tag is not None:
            self._channel.ack(tag, multiple=True)
            self._sizes.release(tag)
            while self._begun and self._begun[0][0] <= tag:
                self._begun.popleft()
            self._metrics.acknowledged.inc(tag - self._acknowledged_tag)
            self._acknowledged_tag = tag

    def _count(
        self, received: int, appended: Sequence[Appended], rejected: Sequence[tuple[Delivery, Rejection]]
    ) -> None:
        for _, rejection in rejected:
            self._metrics.rejected.labels(rejection.kind.value).inc()
        known = sum(entry.known for entry in appended)
        self._metrics.received.inc(received)
        self._metrics.batch_size.observe(received)
        self._metrics.appended.inc(len(appended) - known)
        self._metrics.duplicates.inc(known)
        self._metrics.dropped.inc(sum(entry.dropped for entry in appended))


def _sort_out(
    batch: Sequence[Delivery],
) -> tuple[list[Delivery], list[Message], list[tuple[Delivery, Rejection]]]:
    """Return the deliveries that can be read, the message in each of them, and the others with the reason."""
    accepted: list[Delivery] = []
    messages: list[Message] = []
    rejected: list[tuple[Delivery, Rejection]] = []
    for delivery in batch:
        parsed = _parse(delivery)
        if isinstance(parsed, Message):
            accepted.append(delivery)
            messages.append(parsed)
        else:
            rejected.append((delivery, parsed))
    return accepted, messages, rejected


def _reject(refused: AppendRefused) -> Rejection:
    return Rejection(RejectClass.MESSAGE_ID if refused.other_body else RejectClass.SCRIPT, refused.reason)


def _parse(delivery: Delivery) -> Message | Rejection:
    """Parse, and reject what parsing fails on: such a message must not come back for ever and block all others."""
    try:
        return parse_delivery(delivery)
    except Exception as error:
        _log.exception("the dispatcher failed to read a message; it goes to push.rejected")
        return Rejection(RejectClass.PROPERTIES, f"the dispatcher failed on it: {type(error).__name__}: {error}")
