"""The API's connection to RabbitMQ, as far as a played channel shows what a real broker cannot be made to do."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.control import CONTROL_TYPE, Disconnect
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_dispatcher.api import ingress_publisher as publisher_module
from pushcluster_dispatcher.api.ingress_publisher import MAX_IN_FLIGHT, IngressPublisher
from pushcluster_dispatcher.api.replies import Replies
from pushcluster_runtime.amqp import AmqpConnection, ConfirmOutcome
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.tasks import cancel
from tests.support.waiting import eventually

SID = "a" * 26
HERE = Incarnation("pod", "0" * 16)


@dataclass
class PlayedChannel:
    """Takes every call; publishes wait until the test answers."""

    outcome: ConfirmOutcome | None = ConfirmOutcome.CONFIRMED
    in_flight: int = 0
    published: list[tuple[str, str, BasicProperties, bool]] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def declare(self, _: object) -> None: ...

    async def declare_queue(self, queue: Any) -> None:
        self.queues.append(queue.name)

    async def consume(self, *_: object, **__: object) -> None: ...

    def publish(
        self, exchange: str, routing_key: str, _: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[ConfirmOutcome]:
        self.published.append((exchange, routing_key, properties, mandatory))
        future: asyncio.Future[ConfirmOutcome] = asyncio.get_running_loop().create_future()
        if self.outcome is not None:
            future.set_result(self.outcome)
        return future


class PlayedAmqp:
    def __init__(self, channel: PlayedChannel) -> None:
        self.blocked = False
        self._channel = channel

    async def channel(self, **_: object) -> PlayedChannel:
        return self._channel

    async def declare(self, parts: Iterable[object]) -> list[str]:
        return ["406" for _ in parts]

    async def close(self) -> None: ...


@dataclass
class Bench:
    broker: IngressPublisher
    replies: Replies
    channel: PlayedChannel
    amqp: PlayedAmqp
    task: asyncio.Task[None]


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    channel = PlayedChannel()
    amqp = PlayedAmqp(channel)

    async def connect(*_: object, **__: object) -> PlayedAmqp:
        return amqp

    monkeypatch.setattr(AmqpConnection, "connect", connect)
    replies = Replies(lambda: "c1")
    broker = IngressPublisher(
        "amqp://h", name="api", new_unique=lambda: "u1", replies=replies, backoff=Backoff(lambda: 0.0)
    )
    task = asyncio.create_task(broker.run())
    await eventually(lambda: not broker.trouble, within_s=5)
    yield Bench(broker, replies, channel, amqp, task)
    await cancel(task)


async def publish(bench: Bench) -> None:
    await bench.broker.publish("alice", b"x", BasicProperties())


async def test_a_message_goes_into_ingress(bench: Bench) -> None:
    await publish(bench)
    ((exchange, key, _, _),) = bench.channel.published
    assert (exchange, key) == ("push", "alice")


async def test_one_message_more_than_may_wait_for_a_confirm_is_refused(bench: Bench) -> None:
    bench.channel.in_flight = MAX_IN_FLIGHT - 1
    await publish(bench)
    bench.channel.in_flight = MAX_IN_FLIGHT
    with pytest.raises(Unavailable, match="1000 messages already wait"):
        await publish(bench)
    assert len(bench.channel.published) == 1


async def test_while_the_broker_blocks_a_publish_is_refused_at_once(bench: Bench) -> None:
    bench.amqp.blocked = True
    with pytest.raises(Unavailable, match="alarm"):
        await publish(bench)


async def test_a_publish_without_a_confirm_is_refused_after_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "CONFIRM_TIMEOUT_S", 0.01)
    bench.channel.outcome = None
    with pytest.raises(Unavailable, match="did not confirm"):
        await publish(bench)


async def test_a_refused_message_is_a_full_ingress(bench: Bench) -> None:
    bench.channel.outcome = ConfirmOutcome.NACKED
    with pytest.raises(Unavailable, match="full"):
        await publish(bench)


@pytest.mark.parametrize(("outcome", "told"), [(ConfirmOutcome.CONFIRMED, True), (ConfirmOutcome.RETURNED, False)])
async def test_a_gateway_is_told_in_its_own_queue_if_it_has_one(
    bench: Bench, outcome: ConfirmOutcome, told: bool
) -> None:
    bench.channel.outcome = outcome
    assert await bench.broker.disconnect("alice", SID, HERE) is told
    ((exchange, key, properties, mandatory),) = bench.channel.published
    assert (exchange, key, mandatory) == ("", f"pushcluster.gateway.{HERE}", True)
    assert properties.type == CONTROL_TYPE
    assert Disconnect.parse(properties.headers or {}) == Disconnect("alice", SID)


async def test_replies_come_to_a_queue_that_goes_with_the_connection(bench: Bench) -> None:
    assert bench.channel.queues == ["replies.u1"]
    with bench.replies.waiting() as waiter:
        assert waiter.address.queue == "replies.u1"
        bench.channel.lost.set_result("closed")
        async with asyncio.timeout(5):
            assert not (await waiter.wait_until(asyncio.get_running_loop().time() + 60)).complete
    with pytest.raises(Unavailable):
        await publish(bench)
