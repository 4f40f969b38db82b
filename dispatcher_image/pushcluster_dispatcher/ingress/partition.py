"""One ingress partition: take batches, append them, send copies, wait for the durability barrier, acknowledge.

A session has one AMQP channel and lasts as long as it. Messages that were not acknowledged then come back in order, to
this dispatcher or another one.

Redis may be lost and come back meanwhile, and so may the connection for copies. The session then keeps what it has
begun, because nobody else could find out what became of it. It takes a new fencing token, so that nothing of the lost
connection can happen after that, and makes the same attempts again, in order. Each of them is in the log once
(`lua/append.lua`). If it has begun nothing, the session ends with the connection, because another dispatcher may have
both.

Message ids are known for a window. The ids of messages under way are kept in it, because a message may wait longer than
that when Redis is out of memory or RabbitMQ has an alarm.

A session also ends, without a failure, when its prefetch does not fit the size of its messages. What a session holds is
bounded in bytes, and quorum queues know no prefetch in bytes.

And it ends with HeldTooLong before RabbitMQ takes back what it has held for too long (`time_limit.py`). What is safe in
the logs by then is acknowledged one by one, so that it does not come again.

As a rule, nobody waits for an acknowledgement. So batches share their barriers (`urgency.py`), and all that are
complete in one turn of the event loop share one acknowledgement.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES
from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_dispatcher.ingress.append_pace import AppendPace
from pushcluster_dispatcher.ingress.batches import Batch, BatchCopies, parse
from pushcluster_dispatcher.ingress.counting import count_batch, count_part
from pushcluster_dispatcher.ingress.interfaces import (
    AckChannel,
    CopiesLost,
    CopySink,
    FencedLog,
    LogSource,
    RedisLost,
    RejectSink,
    ReportSink,
)
from pushcluster_dispatcher.ingress.ledger import Ledger, Step
from pushcluster_dispatcher.ingress.outcome_reports import plan_rejection, plan_reports
from pushcluster_dispatcher.ingress.prefetch import MessageSizes
from pushcluster_dispatcher.ingress.time_limit import GIVE_BACK_WITHIN_S, LOOK_EVERY_S, HeldTimes, HeldTooLong
from pushcluster_dispatcher.ingress.urgency import is_urgent
from pushcluster_dispatcher.log.entries import Appended, AppendRefused, StaleToken
from pushcluster_dispatcher.log.interfaces import HeldWire
from pushcluster_dispatcher.messages import Message, Rejection
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.hops import DISPATCHER_HOPS, Hop, Sampler, Trace
from pushcluster_runtime.tasks import cancel, first_error

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
    ids_window_s: float
    """How long Redis remembers a producer's message id."""
    consumer_timeout_s: float
    """How long RabbitMQ lets a consumer hold a message."""
    pace: AppendPace = field(default_factory=AppendPace)
    """When batches begin."""
    sampler: Sampler = field(default_factory=Sampler)
    """Chooses the messages whose hops are timed."""


@dataclass(frozen=True, slots=True)
class _BatchInFlight:
    """A batch that is appended and not acknowledged yet."""

    batch: Batch
    rejected: Sequence[tuple[Delivery, Rejection]]
    copied: Sequence[asyncio.Future[None]]
    reports: Sequence[tuple[ReplyAddress, OutcomeReport]]
    """The outcomes to send once the batch is on disk."""
    barrier: asyncio.Future[None]


class PartitionSession:
    """The work on one partition over one channel. `receive` is the consumer's callback."""

    def __init__(
        self,
        channel: AckChannel,
        logs: LogSource,
        services: PartitionServices,
        *,
        copies_lost: asyncio.Future[str],
        number: int,
        prefetch: int = DISPATCHER_PREFETCH_MESSAGES,
    ) -> None:
        """`number` is that of the partition, 0 to 15.

        `copies_lost` tells of the connection for copies that was there when the channel was opened.
        """
        self._channel = channel
        self._logs = logs
        self._copies = services.copies
        self._rejects = services.rejects
        self._reports = services.reports
        self._now_ms = services.now_ms
        self._metrics = services.metrics
        self._pace = services.pace
        self._sampler = services.sampler
        self._traces: dict[int, Trace] = {}
        """What times the hops of deliveries in the inbox, by tag."""
        self._copies_lost = copies_lost
        self._ids_window_s = services.ids_window_s
        self._number = number
        self._fenced: FencedLog | None = None
        self._channel_token = 0
        """The first token of this channel. It names the attempts for ever. 0: none yet."""
        self._ledger = Ledger()
        self._acknowledged_tag = 0
        # The batches that the ledger has open, in the same order.
        self._begun: deque[Batch] = deque()
        # Bounded by the channel's prefetch and by `MessageSizes`, because nothing in here is acknowledged.
        self._inbox: deque[Delivery] = deque()
        self._sizes = MessageSizes(prefetch)
        self._woken = asyncio.Event()
        self._finishing = False
        self._loop = asyncio.get_running_loop()
        self._times = HeldTimes(services.consumer_timeout_s)
        self._appending: tuple[Batch, BatchCopies] | None = None
        """The batch that Redis has not taken as a whole."""
        self._unsettled: dict[int, _BatchInFlight] = {}
        """The batches that are appended and wait for the disk or for their copies, by last tag."""
        self._acknowledged_apart = 0

    @property
    def wanted_prefetch(self) -> int | None:
        """The prefetch for the next session, when this one ends because its own does not fit. Else None."""
        return self._sizes.wanted_prefetch

    def receive(self, delivery: Delivery) -> None:
        """Take one delivery. From the first that does not fit, none is taken: they come again to the next session."""
        now = self._loop.time()
        self._pace.count(now)
        self._times.take(delivery.tag, now)
        if self._sizes.take(delivery.tag, len(delivery.body) + len(delivery.raw_properties or b"")):
            self._inbox.append(delivery)
            if self._sampler.takes(now):
                self._traces[delivery.tag] = Trace(self._metrics.hops, DISPATCHER_HOPS)
        if not self._woken.is_set():
            self._woken.set()

    def finish(self) -> None:
        """Take no further batch. `run` then returns when all that has begun is acknowledged."""
        self._finishing = True
        self._woken.set()

    async def run(self) -> None:
        """Work until `finish`, or until there is a `wanted_prefetch`. Return when all that was taken is acknowledged.

        Raise an ExceptionGroup of Unavailable when the session is broken, and Unavailable when Redis or the connection
        for copies is lost while nothing has begun. Raise a group of HeldTooLong when Redis has not taken a message for
        too long.
        """
        keeping = asyncio.create_task(self._keep_ids())
        try:
            while lost := await self._run_over(await self._logs.wire()):
                if not self._begun:
                    raise Unavailable(lost)
                _log.warning("a connection is lost; the dispatcher keeps what has begun", extra={"reason": lost})
                self._copies_lost = await self._copies.wait_connected()
        finally:
            await cancel(keeping)

    def oldest_s(self) -> float:
        """Return how long the oldest message has been unacknowledged here. 0 without any."""
        return self._times.oldest_s(self._loop.time())

    async def wait_held_too_long(self) -> None:
        """Return once a message has been unacknowledged for so long that all must be given back.

        While Redis has not answered an append, that is later: `run` has the chance to end when it has.
        """
        while True:
            now = self._loop.time()
            times = self._times
            left_s = times.left_s(now) if self._appending is None else times.latest_left_s(now)
            if left_s <= 0:
                return
            await asyncio.sleep(max(left_s, LOOK_EVERY_S))

    async def give_back(self) -> int:
        """Acknowledge one by one what is safe already, after `run` has ended, so that it is not appended once more.

        Return how many messages go back with the channel.
        """
        flights, self._unsettled = self._unsettled, {}
        await asyncio.gather(self._acknowledge_part(), *map(self._acknowledge_flight, flights.values()))
        self._acknowledge_each(self._ledger.done_behind)
        return self._times.held - self._acknowledged_apart

    async def _run_over(self, wire: HeldWire) -> str:
        """Work as long as both connections last, and return why one has ended. Return "" when all is finished."""
        lost = ""
        try:
            async with asyncio.TaskGroup() as group:
                watching = (
                    group.create_task(_raise_when_lost(wire)),
                    group.create_task(_raise_when_copies_are_lost(self._copies_lost)),
                )
                async with asyncio.TaskGroup() as settling:
                    await self._work(wire, settling)
                for each in watching:
                    each.cancel()
        except* (RedisLost, CopiesLost) as errors:
            lost = str(first_error(errors))
        finally:
            # Batches that were complete when this was cut short need not come again.
            with suppress(Unavailable):  # without a channel, they do
                self._acknowledge()
        return lost

    async def _work(self, wire: HeldWire, settling: asyncio.TaskGroup) -> None:
        """Append what has begun and what comes, until finished. Raise RedisLost, or Unavailable."""
        # Not before its first message: a token from when it stood by may be lower than the last one of its predecessor.
        if not await self._has_work():
            return
        fenced = self._fenced = await self._logs.open(wire)
        self._channel_token = self._channel_token or fenced.token
        unfinished = self._ledger.start_over()
        self._unsettled.clear()
        for batch in [each for each in self._begun if each.last_tag in unfinished]:
            flight = await self._process(batch, fenced, again=True)
            self._unsettled[batch.last_tag] = flight
            settling.create_task(self._settle(flight))
        while deliveries := await self._next_deliveries():
            traces, self._traces = self._traces, {}
            batch = Batch.of(deliveries, traces)
            self._ledger.begin(deliveries[0].tag, batch.last_tag)
            self._begun.append(batch)
            flight = await self._process(batch, fenced, again=False)
            self._unsettled[batch.last_tag] = flight
            settling.create_task(self._settle(flight))
        if self._begun:
            fenced.request_barrier()  # urgent, for all that wait: the session ends when they are acknowledged

    async def _keep_ids(self) -> None:
        """Keep the ids of unacknowledged messages in the idempotency window, whichever session appended them."""
        while True:
            await asyncio.sleep(min(self._ids_window_s / KEPT_TIMES_A_WINDOW, KEPT_WITHIN_S))
            under_way = [message for batch in self._begun for message in batch.messages]
            under_way += [each for delivery in self._inbox if isinstance(each := parse(delivery), Message)]
            if self._fenced is not None:
                with suppress(Unavailable):  # the connection is lost, see `_run_over`
                    await self._fenced.log.keep_ids(under_way)

    async def _has_work(self) -> bool:
        """Return True once there is something to append, and False when there is nothing and no more is taken."""
        while not (self._begun or self._inbox or self._finishing or self._sizes.wanted_prefetch is not None):
            self._woken.clear()
            await self._woken.wait()
        return bool(self._begun) or (bool(self._inbox) and not self._finishing)

    async def _next_deliveries(self) -> list[Delivery]:
        """Return what has arrived, at least one delivery. Return [] when finishing, or when no more are taken."""
        while not self._inbox and not self._finishing and self._sizes.wanted_prefetch is None:
            self._woken.clear()
            await self._woken.wait()
        if self._inbox and not self._finishing:
            await self._pace.turn()
        deliveries: list[Delivery] = []
        if self._finishing:
            return deliveries
        deliveries.extend(self._inbox)  # bounded by `MessageSizes` and the prefetch
        self._inbox.clear()
        return deliveries

    async def _process(self, batch: Batch, fenced: FencedLog, *, again: bool) -> _BatchInFlight:
        """Append a batch to the users' logs, hand over its copies, and ask for the barrier that covers it."""
        copies = BatchCopies(batch.messages, self._copies, self._number)
        results = await self._append(batch, fenced, copies)
        appended, rejected = batch.sort_out(results)
        count_batch(self._metrics, batch, [entry for _, entry in appended], rejected, again=again)
        reports = plan_reports(appended, self._now_ms)
        # Asked for after the last answer: a barrier that began earlier would not cover this batch.
        barrier = fenced.request_barrier(
            urgent=is_urgent(
                told=bool(reports),
                put_aside=bool(rejected),
                held_part=self._sizes.held_part,
                is_old=self._times.is_old(self._loop.time()),
            )
        )
        await copies.send_rest(appended)
        return _BatchInFlight(batch, rejected, copies.outcomes, reports, barrier)

    async def _append(self, batch: Batch, fenced: FencedLog, copies: BatchCopies) -> Sequence[Appended | AppendRefused]:
        """Return what became of each message at the log. While some have to wait, the copies of the others are sent."""
        if not batch.messages:
            return []

        async def on_part(part: Mapping[int, Appended | AppendRefused]) -> None:
            batch.reached(Hop.APPENDED, part)
            await copies.send_part(part)
            if self._times.left_s(self._loop.time()) <= 0:
                raise HeldTooLong

        started = self._loop.time()
        attempts = batch.name_attempts(self._channel_token)
        self._appending = batch, copies
        batch.reached(Hop.APPEND_SENT)
        try:
            results = await fenced.log.append(batch.messages, attempts, on_part)
        except StaleToken:
            self._metrics.fenced.inc()
            raise
        except Unavailable as error:
            self._appending = None  # nothing of it can be proved to be on disk
            raise RedisLost(str(error)) from error
        self._appending = None
        batch.reached(Hop.APPENDED)
        self._metrics.append_seconds.observe(self._loop.time() - started)
        return results

    async def _acknowledge_part(self) -> None:
        """Acknowledge what Redis has taken of a batch that it has not taken as a whole, once that is on disk."""
        if self._appending is None:
            return
        batch, copies = self._appending
        tags = [batch.accepted[n].tag for n in copies.in_log]
        reports = plan_reports(copies.in_log.values(), self._now_ms)
        if await self._acknowledge_on_disk(tags, copies.outcomes, reports):
            count_part(self._metrics, [entry for _, entry in copies.in_log.values()])

    async def _acknowledge_flight(self, flight: _BatchInFlight) -> None:
        """Acknowledge what is in the logs of a batch that Redis has taken as a whole, once that is on disk."""
        batch, rejected = flight.batch, {delivery.tag for delivery, _ in flight.rejected}
        in_log = [delivery.tag for delivery in batch.accepted if delivery.tag not in rejected]
        await self._acknowledge_on_disk(sorted([*in_log, *batch.put_aside]), flight.copied, flight.reports)

    async def _acknowledge_on_disk(
        self,
        tags: Sequence[int],
        copied: Sequence[asyncio.Future[None]],
        reports: Sequence[tuple[ReplyAddress, OutcomeReport]],
    ) -> bool:
        """Acknowledge these deliveries, and tell their producers, if the steps that are left succeed soon."""
        if not tags or self._fenced is None:
            return False
        done, missing = await asyncio.wait([self._fenced.request_barrier(), *copied], timeout=GIVE_BACK_WITHIN_S)
        if missing or any(step.cancelled() or step.exception() for step in done):
            return False
        self._acknowledge_each(tags)
        for address, report in reports:
            self._reports.tell(address, report)
        return True

    def _acknowledge_each(self, tags: Sequence[int]) -> None:
        for tag in tags:
            self._channel.ack(tag)
        self._acknowledged_apart += len(tags)
        self._metrics.acknowledged.inc(len(tags))

    async def _settle(self, flight: _BatchInFlight) -> None:
        """Wait until every step of a batch is done, and acknowledge it. Raise Unavailable, RedisLost or CopiesLost."""
        batch = flight.batch
        await asyncio.gather(*(self._put_aside(batch, *each) for each in flight.rejected))
        self._ledger.mark(batch.last_tag, Step.APPENDED)
        try:
            for copied in flight.copied:
                # Shielded, because the copies of several partitions travel together: the others wait for it too.
                await asyncio.shield(copied)
        except Unavailable as error:
            raise CopiesLost(str(error)) from error
        self._ledger.mark(batch.last_tag, Step.COPIED)
        try:
            await flight.barrier
        except Unavailable as error:
            raise RedisLost(str(error)) from error
        self._ledger.mark(batch.last_tag, Step.DURABLE)
        del self._unsettled[batch.last_tag]
        for address, report in flight.reports:
            self._reports.tell(address, report)
        # One turn of the loop later, every batch is marked for which the same barrier was the last step.
        await asyncio.sleep(0)
        self._acknowledge()

    async def _put_aside(self, batch: Batch, delivery: Delivery, rejection: Rejection) -> None:
        """Put one message into `push.rejected`, and tell its producer."""
        if delivery.tag in batch.put_aside:
            return
        await self._rejects.put(delivery, rejection)
        batch.put_aside.add(delivery.tag)
        report = plan_rejection(delivery, rejection)
        if report is not None:
            self._reports.tell(*report)

    def _acknowledge(self) -> None:
        """Acknowledge all batches up to the first that is not complete. Raise Unavailable if the channel is gone."""
        tag = self._ledger.take_complete()
        if tag is None:
            return
        self._channel.ack(tag, multiple=True)
        self._sizes.release(tag)
        self._times.release(tag)
        while self._begun and self._begun[0].last_tag <= tag:
            self._begun.popleft()
        self._metrics.acknowledged.inc(tag - self._acknowledged_tag)
        self._acknowledged_tag = tag


async def _raise_when_lost(wire: HeldWire) -> None:
    raise RedisLost(f"Redis: {await asyncio.shield(wire.lost)}")


async def _raise_when_copies_are_lost(lost: asyncio.Future[str]) -> None:
    raise CopiesLost(f"RabbitMQ, the connection for copies: {await asyncio.shield(lost)}")
