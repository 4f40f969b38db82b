"""One ingress partition: the loop through steps D0 to D6 over one channel and one Redis connection.

A session lasts as long as both of them. When either goes, or a barrier cannot be passed, the channel is closed: what
was not acknowledged comes back in order, to this dispatcher or another, and idempotency absorbs what was done already.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.topology import REJECTED_EXCHANGE
from pushcluster_dispatcher.copies import Copies, SentCopy
from pushcluster_dispatcher.ledger import Ledger, Step
from pushcluster_dispatcher.log_entries import Appended
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.parse import Message, RejectClass, Rejection, parse_delivery
from pushcluster_dispatcher.ports import Channel, Log
from pushcluster_dispatcher.rejected import build_rejected
from pushcluster_runtime.amqp import Delivery, Outcome

_log = logging.getLogger(__name__)

MAX_BATCH_BYTES: Final = 4 * 1_048_576
"""Bodies in one pipeline to Redis; a batch ends with the message that reaches it."""


REJECTED_KEY: Final = ""
"""A fan-out exchange reads no routing key; the user's id stands in a header, where it may be anything."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch that is appended and not yet acknowledged."""

    last_tag: int
    rejected: list[asyncio.Future[Outcome]]
    sent: list[SentCopy]
    barrier: asyncio.Future[None]


class PartitionSession:
    """The life of one partition's channel; `receive` is its consumer."""

    def __init__(
        self,
        channel: Channel,
        log: Log,
        mode: RoutingMode,
        *,
        request_barrier: Callable[[], asyncio.Future[None]],
        metrics: Metrics,
    ) -> None:
        self._channel = channel
        self._log = log
        self._copies = Copies(channel, mode)
        self._request_barrier = request_barrier
        self._metrics = metrics
        self._ledger = Ledger()
        self._acknowledged_tag = 0
        # Bounded by the channel's prefetch: what is in here is not acknowledged.
        self._inbox: deque[Delivery] = deque()
        self._woken = asyncio.Event()
        self._finishing = False

    def receive(self, delivery: Delivery) -> None:
        """Take one delivery; it is worked on soon."""
        self._inbox.append(delivery)
        self._woken.set()

    def finish(self) -> None:
        """Take no further batch: `run` returns when all that has begun is acknowledged."""
        self._finishing = True
        self._woken.set()

    async def run(self) -> None:
        """Work until `finish`. Raises an ExceptionGroup of Unavailable when the session is broken."""
        async with asyncio.TaskGroup() as settling:
            while batch := await self._next_batch():
                self._ledger.begin(batch[0].tag, batch[-1].tag)
                flight = await self._process(batch)
                settling.create_task(self._settle(flight))

    async def _next_batch(self) -> list[Delivery]:
        """Return what has arrived, at least one; nothing when finishing."""
        while not self._inbox and not self._finishing:
            self._woken.clear()
            await self._woken.wait()
        batch: list[Delivery] = []
        if self._finishing:
            return batch
        size = 0
        while self._inbox and len(batch) < DISPATCHER_PREFETCH_MESSAGES and size < MAX_BATCH_BYTES:
            delivery = self._inbox.popleft()
            size += len(delivery.body)
            batch.append(delivery)
        return batch

    async def _process(self, batch: list[Delivery]) -> _Flight:
        """Do D1, D2 and the publishing of D4, and ask for D5."""
        rejected: list[asyncio.Future[Outcome]] = []
        accepted: list[tuple[Delivery, Message]] = []
        for delivery in batch:
            parsed = _parse(delivery)
            if isinstance(parsed, Message):
                accepted.append((delivery, parsed))
            else:
                rejected.append(self._reject(delivery, parsed))
        started = asyncio.get_running_loop().time()
        results = await self._log.append([message for _, message in accepted]) if accepted else []
        self._metrics.append_seconds.observe(asyncio.get_running_loop().time() - started)
        # Asked for after the last answer: a barrier that began earlier would not cover this batch.
        barrier = self._request_barrier()
        appended: list[tuple[Message, Appended]] = []
        for (delivery, message), result in zip(accepted, results, strict=True):
            if isinstance(result, Appended):
                appended.append((message, result))
            else:
                rejected.append(self._reject(delivery, Rejection(RejectClass.SCRIPT, result.reason)))
        self._count(len(batch), [entry for _, entry in appended])
        return _Flight(batch[-1].tag, rejected, await self._copies.send(appended), barrier)

    async def _settle(self, flight: _Flight) -> None:
        """See a batch to its acknowledgement. Raises Unavailable."""
        for outcome in flight.rejected:
            if await outcome is not Outcome.CONFIRMED:
                raise Unavailable(f"{REJECTED_EXCHANGE} does not take a rejected message")
        self._mark(flight.last_tag, Step.APPENDED)
        counts = await self._copies.settle(flight.sent)
        self._metrics.copies_sent.inc(counts.sent)
        self._metrics.copies_returned.inc(counts.returned)
        self._metrics.copies_fallback.inc(counts.fallback)
        self._metrics.copies_lost.inc(counts.lost)
        self._mark(flight.last_tag, Step.COPIED)
        await flight.barrier
        self._mark(flight.last_tag, Step.DURABLE)

    def _mark(self, last_tag: int, step: Step) -> None:
        tag = self._ledger.mark(last_tag, step)
        if tag is not None:
            self._channel.ack(tag, multiple=True)
            self._metrics.acknowledged.inc(tag - self._acknowledged_tag)
            self._acknowledged_tag = tag

    def _reject(self, delivery: Delivery, rejection: Rejection) -> asyncio.Future[Outcome]:
        self._metrics.rejected.labels(rejection.kind.value).inc()
        try:
            return self._publish_rejected(delivery, build_rejected(delivery, rejection))
        except (InvalidInput, RecursionError):  # headers that could be read and cannot be written again
            return self._publish_rejected(delivery, build_rejected(delivery, rejection, bare=True))

    def _publish_rejected(self, delivery: Delivery, properties: BasicProperties) -> asyncio.Future[Outcome]:
        return self._channel.publish(REJECTED_EXCHANGE, REJECTED_KEY, delivery.body, properties, mandatory=True)

    def _count(self, received: int, appended: list[Appended]) -> None:
        known = sum(entry.known for entry in appended)
        self._metrics.received.inc(received)
        self._metrics.batch_size.observe(received)
        self._metrics.appended.inc(len(appended) - known)
        self._metrics.duplicates.inc(known)
        self._metrics.dropped.inc(sum(entry.dropped for entry in appended))


def _parse(delivery: Delivery) -> Message | Rejection:
    """Parse, whatever comes: a message on which this program fails must not come again and again before all others."""
    try:
        return parse_delivery(delivery)
    except Exception as error:
        _log.exception("a message could not be read")
        return Rejection(RejectClass.PROPERTIES, f"the dispatcher failed on it: {type(error).__name__}: {error}")
