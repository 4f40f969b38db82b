"""Send copies of appended messages to the gateways. The log has every message; a copy only makes delivery fast.

Copies that all partitions have for one routing key in one tick of the event loop are joined into one AMQP message.
Each partition has a budget of its own for what is under way (`copy_budget.py`). So a user with many or large copies
makes the users of one partition wait, and no others.

While the broker blocks publishers (memory or disk alarm), nobody waits for it. Copies are left out, so that ingress is
still drained. When the broker takes messages again, every gateway is told to read its users' logs. If the dispatcher
ends before it has told them, the gateways' walk finds the messages. Without a connection for copies, nothing is left
out: the partition waits for one, and sends the copies again.

In mode Session, a subscription may have no queue of its own, because it is young or the broker has memory for no more
queues (the gateway's `broker/subscription_queues.py`). Its session's entry says so, and its copies go to its gateway's
queue, which costs what mode Gateway costs. Where the entry is not up to date, or a gateway of version 0.2 wrote it, the
broker returns the copies, and they go to the gateway's queue as well. For UNROUTABLE_S, further copies go there at
once. That is right even if the subscription has got a queue meanwhile: a gateway's queue reaches all subscriptions.
For the same reason, many copies for one gateway may go to its queue, where they are joined (`path_switch.py`).

Some messages are followed on their way (`pushcluster_runtime.hops`). The AMQP message with such a copy has a header
that says when it was sent, and which of its copies the gateway is to time.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from pika.spec import BasicProperties

from pushcluster_contract.batch import BATCH_TYPE, Address, encode_batch, encode_copy
from pushcluster_contract.copy_stamp import COPY_STAMP, CopyStamp
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.limits import MAX_BATCH_BYTES, MAX_BATCH_COPIES
from pushcluster_contract.log_entry import encode_headers
from pushcluster_contract.outcomes import ReplyAddress, ReplyRequest
from pushcluster_contract.routing import BROADCAST_EXCHANGE, Copy, RoutingMode, plan_copies
from pushcluster_dispatcher.egress.copy_budget import CopyBudget
from pushcluster_dispatcher.egress.interfaces import Publisher
from pushcluster_dispatcher.egress.path_switch import InFlight, PathSwitch
from pushcluster_dispatcher.log.entries import Appended, parse_sessions, parse_without_queue
from pushcluster_dispatcher.messages import Message
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_runtime.amqp import ConfirmOutcome, PropertiesTemplate
from pushcluster_runtime.hops import Hop, Trace

CACHED_ROUTES: Final = 4_096
"""How many users' addresses and plans are cached. Both together take at most about four kilobytes."""
CACHED_SESSIONS_BYTES: Final = 512
"""Longer session lists are planned anew each time, so that the memory of the cache stays bounded."""
MAX_UNROUTABLE_KEYS: Final = 32_768
"""How many routing keys that no queue took are remembered, at most about 300 bytes each. The oldest go first."""
UNROUTABLE_S: Final = 60.0
"""How long such a routing key is not tried again."""
TRANSIENT: Final = 1
"""AMQP's delivery mode. A copy that the broker loses is repaired when the gateway next reads the log."""

_PROPERTIES: Final = PropertiesTemplate(BasicProperties(type=BATCH_TYPE, delivery_mode=TRANSIENT))
_TO_ALL_GATEWAYS: Final = Copy(BROADCAST_EXCHANGE, "")

_log = logging.getLogger(__name__)


class CopyConnection(Protocol):
    """The connection that copies are published on (`PublisherConnection`)."""

    @property
    def channel(self) -> Publisher | None:
        """The channel to publish on. None while the broker takes no messages."""

    @property
    def blocked(self) -> bool:
        """Whether there is a connection that the broker does not read from."""

    async def wait_connected(self) -> Publisher:
        """Wait until there is a connection, and return its channel. The broker may still block publishers."""


class _CopyBatch:
    """Copies that are sent in one AMQP message."""

    __slots__ = (
        "body",
        "copies",
        "count",
        "fell_back",
        "followed",
        "held",
        "in_flight",
        "joined",
        "settled",
        "size",
        "to",
    )

    def __init__(self, to: Copy, settled: asyncio.Future[None]) -> None:
        self.to = to
        self.copies: list[bytes] = []
        """Empty once they are joined into `body`."""
        self.count = 0
        self.size = 0
        self.held: dict[CopyBudget, int] = {}
        """The bytes of these copies, by the partition that they came from."""
        self.body = b""
        self.settled = settled
        """Resolves when there is nothing more to wait for, sent or not. Fails when the messages have to come again."""
        self.fell_back = False
        self.in_flight: InFlight | None = None
        """Where it counts as in flight, if copies in it had the choice of a path."""
        self.joined = 0
        """How many of its copies took the gateway's queue although there is a queue of their own."""
        self.followed: tuple[int, Trace] | None = None
        """Which of its copies is followed, until it is sent."""


class CopyPublisher:
    """Publishes all copies of one dispatcher. Its owner has `opened` and `closed` called by the connection."""

    def __init__(
        self,
        publisher: CopyConnection,
        mode: RoutingMode,
        metrics: Metrics,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`wall_clock` returns seconds since the epoch, for the gateways that time copies."""
        self._publisher = publisher
        self._mode = mode
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._loop = asyncio.get_running_loop()
        self._filling: dict[Copy, _CopyBatch] = {}
        self._in_flight: set[_CopyBatch] = set()
        self._budgets: defaultdict[int, CopyBudget] = defaultdict(CopyBudget)
        self._left_out = False
        self._unroutable: dict[str, float] = {}
        """Routing keys that no queue took → until when they are not tried again."""
        self._paths = PathSwitch()
        self._path_drained = asyncio.Event()
        self._plan = lru_cache(maxsize=CACHED_ROUTES)(self._make_plan)

    async def wait_connected(self) -> asyncio.Future[str]:
        """Wait until there is a connection for copies. Return the future that resolves when it is lost."""
        return (await self._publisher.wait_connected()).lost

    async def send(self, partition: int, appended: Sequence[tuple[Message, Appended]]) -> list[asyncio.Future[None]]:
        """Publish the copies of a partition's batch in the order of the log.

        Wait only while the partition's budget is used up, and for a moment when the path to a gateway changes.

        Return futures that resolve when the broker has answered for the copies, or blocks publishers. They fail with
        Unavailable when the connection is lost. Then all of the copies have to be sent again.
        """
        settled: dict[asyncio.Future[None], None] = {}
        budget = self._budgets[partition]
        for message, entry in appended:
            if entry.known and entry.held is None:
                continue
            plan = self.plan(message.destination, entry.sessions)
            if plan:
                data = _encode(message, entry)
                for way in self._reroute(plan) if self._unroutable else plan:
                    while budget.is_used_up and self._publisher.channel is not None:
                        await budget.wait()
                    to, in_flight = (way, None) if way.fallback is None else await self._choose_path(way, way.fallback)
                    settled[self._add(to, in_flight, data, budget)] = None
                    if message.trace is not None:
                        self._follow(to, message.trace)
        return list(settled)

    def plan(self, destination: Destination, sessions: bytes) -> tuple[Copy, ...]:
        """Return where the copies of a message for these sessions go."""
        if self._mode is RoutingMode.BROADCAST:
            return (_TO_ALL_GATEWAYS,)
        if not sessions:
            return ()
        if len(sessions) <= CACHED_SESSIONS_BYTES:
            return self._plan(destination, sessions)
        return self._make_plan(destination, sessions)

    def opened(self) -> None:
        """Note that the broker takes messages. If copies were left out, tell all gateways to read their logs."""
        if self._left_out:
            self._left_out = False
            self._publish(_CopyBatch(_TO_ALL_GATEWAYS, self._loop.create_future()))

    def closed(self) -> None:
        """Note that the broker takes no messages. Copies under way may come late or never, so stop waiting."""
        for batch in self._in_flight:
            self._end(batch)
        for budget in self._budgets.values():
            budget.wake()
        self._path_drained.set()

    async def _choose_path(self, own_queue: Copy, gateway_queue: Copy) -> tuple[Copy, InFlight]:
        """Return where a copy goes now that could go to either. Wait while the broker has to answer first."""
        path = self._paths.count(gateway_queue.routing_key, self._loop.time())
        while path.must_wait and self._publisher.channel is not None:
            self._path_drained.clear()
            await self._path_drained.wait()
        return (gateway_queue, path.joined) if path.is_joined else (own_queue, path.own)

    def _reroute(self, plan: tuple[Copy, ...]) -> Iterable[Copy]:
        """Return the plan with gateways' queues instead of unroutable routing keys."""
        now_s = self._loop.time()
        return [
            to if to.fallback is None or self._unroutable.get(to.routing_key, 0.0) <= now_s else to.fallback
            for to in plan
        ]

    def _note_unroutable(self, routing_key: str) -> None:
        self._unroutable.pop(routing_key, None)
        self._unroutable[routing_key] = self._loop.time() + UNROUTABLE_S
        if len(self._unroutable) > MAX_UNROUTABLE_KEYS:
            del self._unroutable[next(iter(self._unroutable))]

    def _make_plan(self, destination: Destination, sessions: bytes) -> tuple[Copy, ...]:
        return plan_copies(self._mode, destination, parse_sessions(sessions), parse_without_queue(sessions))

    def _add(self, to: Copy, in_flight: InFlight | None, data: bytes, budget: CopyBudget) -> asyncio.Future[None]:
        batch = self._filling.get(to)
        if batch is not None and (batch.count >= MAX_BATCH_COPIES or batch.size + len(data) >= MAX_BATCH_BYTES):
            del self._filling[to]
            self._publish(batch)
            batch = None
        if batch is None:
            if not self._filling:
                self._loop.call_soon(self._publish_all)
            batch = self._filling[to] = _CopyBatch(to, self._loop.create_future())
        size = len(data)
        batch.copies.append(data)
        batch.count += 1
        batch.size += size
        batch.held[budget] = batch.held.get(budget, 0) + size
        budget.take(size)
        if in_flight is not None:
            batch.joined += to.fallback is None
            if batch.in_flight is None:
                batch.in_flight = in_flight
                in_flight.begin()
        return batch.settled

    def _follow(self, to: Copy, trace: Trace) -> None:
        """Follow the copy that was added last, unless another one is followed that leaves with it."""
        batch = self._filling[to]
        batch.followed = batch.followed or (batch.count - 1, trace)

    def _publish_all(self) -> None:
        filled, self._filling = self._filling, {}
        for batch in filled.values():
            self._publish(batch)

    def _publish(self, batch: _CopyBatch) -> None:
        if not batch.body:
            batch.body, batch.copies = encode_batch(batch.copies), []
        try:
            outcome = self._hand_over(batch)
        except InvalidInput:
            _log.exception(
                "AMQP cannot carry a copy; its client gets the message from the log",
                extra={"routing_key": batch.to.routing_key},
            )
            self._lose(batch)
            return
        if outcome is None:
            self._not_sent(batch)
            return
        self._metrics.batches_sent.inc()
        self._in_flight.add(batch)
        outcome.add_done_callback(lambda done: self._on_outcome(batch, done))

    def _hand_over(self, batch: _CopyBatch) -> asyncio.Future[ConfirmOutcome] | None:
        channel, to = self._publisher.channel, batch.to
        if channel is None:
            return None
        properties = _PROPERTIES if batch.followed is None else self._stamp(*batch.followed)
        batch.followed = None
        try:
            return channel.publish(to.exchange, to.routing_key, batch.body, properties, mandatory=True)
        except Unavailable:
            return None

    def _stamp(self, number: int, trace: Trace) -> BasicProperties:
        """Return properties that let a gateway time a copy, which leaves now."""
        trace.reached(Hop.COPY_SENT)
        stamp = CopyStamp(self._wall_clock(), number)
        return BasicProperties(type=BATCH_TYPE, delivery_mode=TRANSIENT, headers={COPY_STAMP: stamp.encode()})

    def _on_outcome(self, batch: _CopyBatch, outcome: asyncio.Future[ConfirmOutcome]) -> None:
        self._in_flight.discard(batch)
        if outcome.cancelled() or outcome.exception() is not None:
            self._not_sent(batch)
            return
        first = not batch.fell_back
        if first:
            self._metrics.copies_sent.inc(batch.count)
            self._metrics.copies_joined.inc(batch.joined)
        if outcome.result() is ConfirmOutcome.CONFIRMED:
            if not first:
                self._metrics.copies_fallback.inc(batch.count)
            self._release(batch)
            return
        if first:
            self._metrics.copies_returned.inc(batch.count)
        if batch.to.fallback is not None:
            self._note_unroutable(batch.to.routing_key)
            batch.to, batch.fell_back = batch.to.fallback, True
            self._publish(batch)
            return
        self._lose(batch)

    def _lose(self, batch: _CopyBatch) -> None:
        self._metrics.copies_lost.inc(batch.count)
        self._release(batch)

    def _not_sent(self, batch: _CopyBatch) -> None:
        if self._publisher.blocked or batch.settled.done() or not batch.count:
            self._left_out = True
            self._metrics.copies_left_out.inc(batch.count)
        self._release(batch, sent=False)

    def _release(self, batch: _CopyBatch, *, sent: bool = True) -> None:
        for budget, size in batch.held.items():
            budget.release(size)
        if batch.in_flight is not None:
            batch.in_flight.end()
            if not batch.in_flight.messages:
                self._path_drained.set()
        self._end(batch, sent=sent)

    def _end(self, batch: _CopyBatch, *, sent: bool = False) -> None:
        """End every wait for this batch. What was not sent has to come again, unless the broker blocks publishers."""
        if batch.settled.done():
            return
        if sent or self._publisher.blocked:
            batch.settled.set_result(None)
        else:
            batch.settled.set_exception(Unavailable("RabbitMQ: the connection for copies is lost"))
            batch.settled.exception()  # marks it as seen: nobody may be waiting for it


def _encode(message: Message, entry: Appended) -> bytes:
    """Return a copy with what the log has. A message that came again may have come with other headers."""
    content_type, headers = entry.held or (
        message.content_type.encode(),
        encode_headers(message.headers).encode() if message.headers else b"",
    )
    return encode_copy(
        _address(message.user, message.destination),
        entry.stream_id,
        message.body,
        content_type,
        message.message_id.encode(),
        headers,
        entry.expires_ms,
        b"" if message.reply is None else _encode_reply(message.reply, entry),
    )


def _encode_reply(address: ReplyAddress, entry: Appended) -> bytes:
    """Return what the log entry carries too (`lua/append.lua`)."""
    return ReplyRequest(address, tuple(parse_sessions(entry.sessions))).encode().encode()


@lru_cache(maxsize=CACHED_ROUTES)
def _address(user: str, destination: Destination) -> Address:
    return Address.of(user, destination)
