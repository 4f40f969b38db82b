"""The AMQP shell against a real RabbitMQ: what it promises, and what it relies on."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

import pika
import pytest
import uvloop
from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES
from pushcluster_contract.topology import (
    PUSH_EXCHANGE,
    Binding,
    Queue,
    build_subscription_queue,
    build_topology,
    ingress_queue,
)
from pushcluster_runtime.amqp import (
    UNREADABLE_HEADER,
    AmqpChannel,
    AmqpConnection,
    ConfirmOutcome,
    Delivery,
)
from tests.support.containers import Services, close_amqp_connections
from tests.support.planes import Plane
from tests.support.waiting import WITHIN_S, eventually

PLAIN: Final = Queue("plain", {"x-queue-type": "classic"}, exclusive=True)


@pytest.fixture
async def amqp(plane: Plane) -> AsyncIterator[AmqpConnection]:
    connection = await AmqpConnection.connect(plane.amqp_url, name="test")
    yield connection
    await connection.close()


def publish(
    channel: AmqpChannel, queue: str, body: bytes | str = b"x", **properties: Any
) -> asyncio.Future[ConfirmOutcome]:
    data = body.encode() if isinstance(body, str) else body
    return channel.publish("", queue, data, BasicProperties(**properties), mandatory=True)


async def test_the_topology_is_declared_twice_without_harm(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    await channel.declare(build_topology())
    await channel.declare(build_topology())
    assert (
        await channel.publish(PUSH_EXCHANGE, "alice", b"x", BasicProperties(), mandatory=True)
        is ConfirmOutcome.CONFIRMED
    )


async def test_users_spread_over_partitions_and_each_stays_in_one(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    await channel.declare(build_topology())
    received: list[Delivery] = []
    for partition in range(16):
        await channel.consume(ingress_queue(partition), received.append, no_ack=True)
    for n in range(400):
        channel.publish(PUSH_EXCHANGE, f"user{n % 100}", b"x", BasicProperties(), mandatory=True)
    await eventually(lambda: len(received) == 400)
    places: dict[str, set[str]] = {}
    for delivery in received:
        places.setdefault(delivery.routing_key, set()).add(delivery.consumer_tag)
    assert {len(queues) for queues in places.values()} == {1}
    assert len({queue for queues in places.values() for queue in queues}) >= 14


async def test_of_many_publishes_exactly_the_unroutable_ones_are_returned(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(PLAIN)
    keys = ["plain" if n % 3 else f"nobody{n % 2}" for n in range(600)]
    outcomes = await asyncio.gather(*(publish(channel, key) for key in keys))
    expected = [ConfirmOutcome.CONFIRMED if key == "plain" else ConfirmOutcome.RETURNED for key in keys]
    assert outcomes == expected
    assert channel.in_flight == 0


async def test_a_return_is_matched_although_the_same_key_was_routed_before(amqp: AmqpConnection) -> None:
    """By order and key alone, the first publish would be taken for the returned one."""
    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(PLAIN)
    routed = publish(channel, "plain")
    deleting = asyncio.create_task(channel.delete_queue("plain"))
    await asyncio.sleep(0)
    unroutable = publish(channel, "plain")
    await deleting
    assert (await routed, await unroutable) == (ConfirmOutcome.CONFIRMED, ConfirmOutcome.RETURNED)


async def test_a_full_queue_that_refuses_publishes_is_a_nack(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    arguments: dict[str, str | int] = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    await channel.declare_queue(Queue("small", arguments, exclusive=True))
    outcomes = [await publish(channel, "small") for _ in range(3)]
    assert outcomes == [ConfirmOutcome.CONFIRMED, ConfirmOutcome.NACKED, ConfirmOutcome.NACKED]


async def test_a_channel_error_fails_what_waits_and_leaves_the_connection(amqp: AmqpConnection) -> None:
    channel, other = await amqp.channel(confirm=True), await amqp.channel()
    waiting = channel.publish("no such exchange", "x", b"", BasicProperties(), mandatory=True)
    with pytest.raises(Unavailable, match="no such exchange"):
        await asyncio.wait_for(channel.bind(Binding("amq.topic", "no such queue", "k")), WITHIN_S)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(waiting, WITHIN_S)
    assert "404" in await asyncio.wait_for(channel.lost, WITHIN_S)
    with pytest.raises(Unavailable):
        publish(channel, "plain")
    with pytest.raises(Unavailable):
        channel.ack(1)
    await other.declare_queue(PLAIN)
    assert not amqp.lost.done()


async def test_a_connection_that_the_broker_closes_fails_everything(
    amqp: AmqpConnection, plane: Plane, services: Services
) -> None:
    channel = await amqp.channel(confirm=True)
    await close_amqp_connections(services, plane.vhost)
    assert "CONNECTION_FORCED" in await asyncio.wait_for(amqp.lost, WITHIN_S)
    assert "CONNECTION_FORCED" in await asyncio.wait_for(channel.lost, WITHIN_S)
    for call in (amqp.channel(), channel.declare_queue(PLAIN)):
        with pytest.raises(Unavailable, match="CONNECTION_FORCED"):
            await call


async def test_a_connection_that_cannot_be_made_says_why(plane: Plane) -> None:
    with pytest.raises(Unavailable, match="Connection refused"):
        await AmqpConnection.connect("amqp://test:x@127.0.0.1:1/v", name="test")
    with pytest.raises(Unavailable, match="ACCESS_REFUSED"):
        await AmqpConnection.connect(plane.amqp_url.replace("@", "wrong@"), name="test")


async def test_a_missing_vhost_is_named(plane: Plane) -> None:
    with pytest.raises(Unavailable, match=r"vhost .*nowhere.* not found"):
        await AmqpConnection.connect(plane.amqp_url.replace(plane.vhost, "nowhere"), name="test")


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closing.append(writer)

    closing: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable):
        await AmqpConnection.connect(f"amqp://a:b@127.0.0.1:{port}/v", name="test", timeout_s=0.3)
    for writer in closing:
        writer.close()
    server.close()


@pytest.mark.parametrize("url", ["", "http://host", "amqp://host:port/v"])
async def test_what_is_no_amqp_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="AMQP URL"):
        await AmqpConnection.connect(url, name="test")


async def test_closing_a_channel_keeps_the_order_for_the_next_consumer(plane: Plane, amqp: AmqpConnection) -> None:
    """pika alone cancels first: then the next consumer would get 10, 11, … before 0, 1, …"""
    channel = await amqp.channel(confirm=True, prefetch=10)
    await channel.declare(build_topology())
    other = await AmqpConnection.connect(plane.amqp_url, name="other")
    taken: list[str] = []
    second = await other.channel(prefetch=10)

    def take(delivery: Delivery) -> None:
        taken.append(delivery.body.decode())
        second.ack(delivery.tag)

    held: list[Delivery] = []
    await channel.consume(ingress_queue(0), held.append, no_ack=False, priority=2)
    await second.consume(ingress_queue(0), take, no_ack=False, priority=1)
    for n in range(40):
        publish(channel, ingress_queue(0), str(n), delivery_mode=2)
    await eventually(lambda: len(held) == 10)
    channel.ack(held[2].tag, multiple=True)
    await eventually(lambda: len(held) == 13)
    await channel.close()
    await eventually(lambda: len(taken) == 37)
    assert taken == [str(n) for n in range(3, 40)]
    await other.close()


async def test_a_consumer_that_fails_costs_its_channel_and_not_the_connection(amqp: AmqpConnection) -> None:
    channel, other = await amqp.channel(confirm=True), await amqp.channel()

    def fail(_: Delivery) -> None:
        raise RuntimeError("a bug")

    await channel.declare_queue(PLAIN)
    await channel.consume("plain", fail, no_ack=True)
    publish(channel, "plain")
    await asyncio.wait_for(channel.lost, WITHIN_S)
    await other.declare_queue(Queue("still-here", {}, exclusive=True))


async def test_a_consumer_whose_queue_goes_is_told(amqp: AmqpConnection) -> None:
    first, second = await amqp.channel(), await amqp.channel()
    for name in ("one", "two"):
        await first.declare_queue(Queue(name, {"x-queue-type": "classic"}, exclusive=True))
    told: list[str] = []
    await first.consume("one", lambda _: None, no_ack=True, on_cancel=lambda: told.append("one"))
    await second.consume("two", lambda _: None, no_ack=True)
    await first.delete_queue("one")
    await first.delete_queue("two")
    await eventually(lambda: told == ["one"])
    await asyncio.wait_for(second.lost, WITHIN_S)
    assert not first.lost.done()


async def test_a_cancelled_consumer_gets_nothing_more(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(PLAIN)
    received: list[Delivery] = []
    tag = await channel.consume("plain", received.append, no_ack=True)
    await publish(channel, "plain")
    await eventually(lambda: len(received) == 1)
    await channel.cancel(tag)
    await publish(channel, "plain")
    again: list[Delivery] = []
    await channel.consume("plain", again.append, no_ack=True)
    await eventually(lambda: len(again) == 1)
    assert len(received) == 1


async def test_thousands_of_calls_at_once_all_get_their_answer(amqp: AmqpConnection) -> None:
    channels = [await amqp.channel() for _ in range(16)]
    queues = [build_subscription_queue(f"{n}") for n in range(1_000)]

    async def use(n: int, queue: Queue) -> None:
        channel = channels[n % len(channels)]
        await channel.declare_queue(queue)
        await channel.bind(Binding("amq.topic", queue.name, f"k{n}"))
        await channel.consume(queue.name, lambda _: None, no_ack=True)

    await asyncio.gather(*(use(n, queue) for n, queue in enumerate(queues)))
    publisher = await amqp.channel(confirm=True)
    outcomes = [
        publisher.publish("amq.topic", f"k{n}", b"", BasicProperties(), mandatory=True) for n in range(len(queues))
    ]
    assert set(await asyncio.gather(*outcomes)) == {ConfirmOutcome.CONFIRMED}


async def test_a_caller_that_leaves_disturbs_nobody(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    declaring = asyncio.create_task(channel.declare_queue(PLAIN))
    publishing = asyncio.ensure_future(publish(channel, "plain"))
    await asyncio.sleep(0)
    declaring.cancel()
    publishing.cancel()
    await channel.declare_queue(PLAIN)
    assert await publish(channel, "plain") is ConfirmOutcome.CONFIRMED


async def test_what_amqp_cannot_carry_is_refused_and_the_channel_goes_on(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(PLAIN)
    with pytest.raises(InvalidInput):
        publish(channel, "k" * 300)
    with pytest.raises(InvalidInput):
        publish(channel, "plain", headers={"x": object()})
    assert await publish(channel, "plain") is ConfirmOutcome.CONFIRMED


async def test_a_message_with_unreadable_properties_arrives_and_the_next_one_too(amqp: AmqpConnection) -> None:
    """RabbitMQ takes a timestamp in milliseconds, as Java's `System.currentTimeMillis()` gives it; pika fails on it."""

    class Milliseconds(pika.spec.BasicProperties):
        def encode(self) -> list[bytes]:
            table = bytes([4]) + b"when" + b"T" + struct.pack(">Q", 1_700_000_000_000)
            return [struct.pack(">H", 1 << 13), struct.pack(">I", len(table)) + table]

    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(PLAIN)
    received: list[Delivery] = []
    await channel.consume("plain", received.append, no_ack=True)
    await channel.publish("", "plain", b"poison", Milliseconds(), mandatory=False)
    await publish(channel, "plain", "next", headers={"a": "b"})
    await eventually(lambda: len(received) == 2)
    assert [delivery.body for delivery in received] == [b"poison", b"next"]
    assert "year" in str((received[0].properties.headers or {})[UNREADABLE_HEADER])
    assert (received[1].properties.headers or {})["a"] == "b"


async def test_the_largest_body_that_the_broker_takes_comes_through_in_pieces(amqp: AmqpConnection) -> None:
    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(PLAIN)
    received: list[Delivery] = []
    await channel.consume("plain", received.append, no_ack=True)
    body = bytes(range(256)) * (BROKER_MAX_MESSAGE_BYTES // 256)
    await publish(channel, "plain", body)
    await eventually(lambda: received)
    assert received[0].body == body


def test_it_works_on_uvloop_as_the_programs_run_it(services: Services) -> None:
    async def main() -> ConfirmOutcome:
        amqp = await AmqpConnection.connect(services.amqp_url("%2F"), name="test")
        channel = await amqp.channel(confirm=True)
        await channel.declare_queue(Queue("uvloop", {"x-queue-type": "classic"}, exclusive=True))
        outcome = await publish(channel, "uvloop")
        await amqp.close()
        return outcome

    assert uvloop.run(main()) is ConfirmOutcome.CONFIRMED


@pytest.mark.parametrize("value", [10**30, {"deep": 1 << 70}, [1 << 70]])
async def test_a_header_that_amqp_cannot_carry_is_the_senders_fault_and_costs_nothing(
    amqp: AmqpConnection, value: object
) -> None:
    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(PLAIN)
    with pytest.raises(InvalidInput, match="cannot carry"):
        publish(channel, PLAIN.name, headers={"x-score": value})
    assert await publish(channel, PLAIN.name, headers={"x-score": 1}) is ConfirmOutcome.CONFIRMED
