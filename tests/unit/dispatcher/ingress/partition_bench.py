"""One partition session whose log, copies, broker and Redis are played; the test says when each of them answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES
from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_dispatcher.ingress.append_pace import AppendPace
from pushcluster_dispatcher.ingress.interfaces import FencedLog, RequestBarrier
from pushcluster_dispatcher.ingress.partition import PartitionServices, PartitionSession
from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_dispatcher.log.interfaces import HeldWire, OnPart
from pushcluster_dispatcher.messages import Message, Rejection
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.settings import CONSUMER_TIMEOUT_S
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.tasks import cancel

NOW_MS = 1_700_000_000_000
PARTITION = 7
SESSIONS = b"a" * 26 + b" pod.0000000000000000"


@dataclass
class PlayedChannel:
    """Acknowledgements are noted."""

    acks: list[int] = field(default_factory=list)
    apart: list[int] = field(default_factory=list)
    """Acknowledged without what came before."""
    is_lost: bool = False

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        if self.is_lost:
            raise Unavailable("RabbitMQ: the channel is gone")
        (self.acks if multiple else self.apart).append(delivery_tag)


@dataclass
class PlayedCopies:
    """Copies wait for the test, and so does a connection that is lost."""

    sent: list[bytes] = field(default_factory=list)
    open: list[asyncio.Future[None]] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def __post_init__(self) -> None:
        self.connected.set()

    async def wait_connected(self) -> asyncio.Future[str]:
        await self.connected.wait()
        if self.lost.done():
            self.lost = asyncio.get_running_loop().create_future()
        return self.lost

    def lose(self) -> None:
        """As `CopyPublisher` does: what was not confirmed fails."""
        self.lost.set_result("gone")
        for future in self.open:
            if not future.done():
                future.set_exception(Unavailable("RabbitMQ: the connection for copies is lost"))
                future.exception()

    async def send(self, partition: int, appended: Sequence[tuple[Message, Appended]]) -> list[asyncio.Future[None]]:
        assert partition == PARTITION, "its own budget"
        self.sent += [message.body for message, _ in appended]
        self.open.append(asyncio.get_running_loop().create_future())
        return [self.open[-1]]


@dataclass
class PlayedRejects:
    """Messages to put aside wait for the test."""

    put_aside: list[tuple[bytes, str]] = field(default_factory=list)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False

    async def put(self, delivery: Delivery, rejection: Rejection) -> None:
        self.put_aside.append((delivery.body, rejection.reason))
        await self.taken.wait()
        if self.refuses:
            raise Unavailable("push.rejected does not take it")


@dataclass
class PlayedWire:
    """A connection to Redis, which the test loses."""

    run_id: str = "life1"
    lost: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def execute(self, commands: Sequence[bytes]) -> list[Any]:
        raise NotImplementedError

    def lose(self) -> None:
        self.lost.set_result("gone")


@dataclass
class PlayedLog:
    """Appends wait for the test when `held`."""

    batches: list[list[Message]] = field(default_factory=list)
    attempts: list[list[bytes]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: set[bytes] = field(default_factory=set)
    sessions: bytes = SESSIONS
    error: Exception | None = None
    answers: dict[bytes, Appended | AppendRefused] = field(default_factory=dict)
    """What becomes of messages with these bodies."""

    part: int = 0
    """So many are appended before the rest has to wait."""
    refused_again: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it, and Redis refuses the rest once more."""
    kept: list[list[str]] = field(default_factory=list)
    """The ids of each call."""
    keeps: bool = True

    async def keep_ids(self, messages: Sequence[Message]) -> None:
        self.kept.append([message.message_id for message in messages])
        if not self.keeps:
            raise Unavailable("Redis: gone")

    async def append(
        self, messages: Sequence[Message], attempts: Sequence[bytes], on_part: OnPart
    ) -> list[Appended | AppendRefused]:
        self.batches.append(list(messages))
        self.attempts.append(list(attempts))
        usual = Appended(b"1-1", False, 0, self.sessions, 0)
        answers = {**self.answers, **dict.fromkeys(self.refuses, AppendRefused("Redis: ERR"))}
        results = [answers.get(message.body, usual) for message in messages]
        if self.part:
            await on_part(dict(enumerate(results[: self.part])))
        while not self.may_answer.is_set():
            self.refused_again.clear()
            await wait_first(self.may_answer, self.refused_again)
            if self.refused_again.is_set():
                await on_part({})
        if self.error is not None:
            raise self.error
        return results


@dataclass
class PlayedLogs:
    """Redis is there, until the test says otherwise. Tokens go up by ten."""

    log: PlayedLog
    request_barrier: RequestBarrier
    wires: list[PlayedWire] = field(default_factory=lambda: [PlayedWire()])
    is_there: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: list[int] = field(default_factory=list)
    may_open: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    """What `open` ends with."""
    first: PlayedWire | None = None
    """What is given at first, although it may be lost."""

    def __post_init__(self) -> None:
        self.is_there.set()
        self.may_open.set()

    async def wire(self) -> PlayedWire:
        first, self.first = self.first, None
        if first is not None:
            return first
        await asyncio.sleep(0)
        await self.is_there.wait()
        if self.wires[-1].lost.done():
            self.wires.append(PlayedWire())
        return self.wires[-1]

    async def open(self, wire: HeldWire) -> FencedLog:
        assert wire is self.wires[-1]
        await self.may_open.wait()
        if self.error is not None:
            raise self.error
        self.tokens.append(10 * len(self.tokens) + 10)
        return FencedLog(self.tokens[-1], self.log, self.request_barrier)


class UnhurriedPace(AppendPace):
    """Batches begin at once, however many messages a test delivers."""

    def count(self, now_s: float) -> None:
        pass


@dataclass
class Bench:
    channel: PlayedChannel = field(default_factory=PlayedChannel)
    log: PlayedLog = field(default_factory=PlayedLog)
    barriers: list[asyncio.Future[None]] = field(default_factory=list)
    urgent: list[bool] = field(default_factory=list)
    """Whether each of the barriers is."""
    copies: PlayedCopies = field(default_factory=PlayedCopies)
    rejects: PlayedRejects = field(default_factory=PlayedRejects)
    metrics: Metrics = field(default_factory=Metrics)
    prefetch: int = DISPATCHER_PREFETCH_MESSAGES
    ids_window_s: float = 600.0
    pace: AppendPace = field(default_factory=UnhurriedPace)
    delivered: int = 0
    told: list[tuple[ReplyAddress, OutcomeReport]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log.may_answer.set()
        self.logs = PlayedLogs(self.log, self._request)
        self.session = PartitionSession(
            self.channel,
            self.logs,
            PartitionServices(
                self.copies,
                self.rejects,
                self,
                self.metrics,
                lambda: NOW_MS,
                ids_window_s=self.ids_window_s,
                consumer_timeout_s=CONSUMER_TIMEOUT_S,
                pace=self.pace,
            ),
            copies_lost=self.copies.lost,
            number=PARTITION,
            prefetch=self.prefetch,
        )
        self.task = asyncio.create_task(self.session.run())

    def tell(self, address: ReplyAddress, report: OutcomeReport) -> None:
        self.told.append((address, report))

    def deliver(self, *bodies: bytes, headers: dict[str, Any] | None = None, **more: Any) -> None:
        for body in bodies:
            self.delivered += 1
            properties = BasicProperties(headers={"destination": "/queue/demo"} if headers is None else headers, **more)
            self.session.receive(Delivery(self.delivered, "push", "alice", False, properties, body, "c"))

    def lose_redis(self) -> None:
        self.logs.wires[-1].lose()

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"pushcluster_dispatcher_{name}_total", labels)

    def confirm_all(self) -> None:
        self.rejects.taken.set()
        for future in self.copies.open:
            if not future.done():
                future.set_result(None)

    def _request(self, *, urgent: bool = True) -> asyncio.Future[None]:
        self.urgent.append(urgent)
        self.barriers.append(asyncio.get_running_loop().create_future())
        return self.barriers[-1]


async def wait_first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


@asynccontextmanager
async def running(ids_window_s: float = 600.0, pace: AppendPace | None = None) -> AsyncIterator[Bench]:
    bench = Bench(ids_window_s=ids_window_s, pace=pace or UnhurriedPace())
    try:
        yield bench
    finally:
        await cancel(bench.task)
