"""Where a dispatcher sends copies, with real RabbitMQ and Redis."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from pushcluster_contract.batch import BATCH_TYPE, parse_batch, parse_copy
from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.routing import TOPIC_EXCHANGE, session_key, subscription_queue
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_contract.topology import (
    Binding,
    build_gateway_queue,
    build_subscription_queue,
)
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, Delivery
from tests.support.dispatchers import (
    DEMO,
    Logs,
    Producer,
    RunningDispatcher,
    all_acknowledged,
    running_dispatcher,
)
from tests.support.planes import Plane
from tests.support.waiting import eventually

SID: Final = "a" * 26
GATEWAY: Final = Incarnation("pod", "0" * 16)


@pytest.fixture
async def gateway(plane: Plane) -> AsyncIterator[AmqpChannel]:
    """A channel on a connection as a gateway has one: exclusive queues live on it."""
    amqp = await AmqpConnection.connect(plane.amqp_url, name="gateway")
    yield await amqp.channel()
    await amqp.close()


async def consume_session(gateway: AmqpChannel, destination: Destination = DEMO, sid: str = SID) -> list[Delivery]:
    """Do what a gateway does at a SUBSCRIBE. Return where copies will appear."""
    received: list[Delivery] = []
    await gateway.declare_queue(build_subscription_queue(sid))
    await gateway.bind(Binding(TOPIC_EXCHANGE, subscription_queue(sid), session_key(destination.name, sid)))
    await gateway.consume(subscription_queue(sid), received.append, no_ack=True)
    return received


async def consume_gateway_queue(gateway: AmqpChannel) -> list[Delivery]:
    queue, binding = build_gateway_queue(GATEWAY)
    received: list[Delivery] = []
    await gateway.declare_queue(queue)
    await gateway.bind(binding)
    await gateway.consume(queue.name, received.append, no_ack=True)
    return received


def copies_in(received: list[Delivery]) -> list[tuple[str, LogEntry]]:
    """Return address and entry of every copy that came, in order."""
    return [
        (address.decode(), parse_copy(delivery.body, position))
        for delivery in received
        for address, position in parse_batch(delivery.body)
    ]


def bodies_in(received: list[Delivery]) -> list[bytes]:
    return [entry.body for _, entry in copies_in(received)]


async def test_the_copy_goes_to_the_queue_of_the_session_with_all_that_the_gateway_needs(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    received = await consume_session(gateway)
    await logs.register("alice", SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    producing.send(
        "alice", "hi", message_id="m1", content_type="text/plain", expiration="60000", headers={"x-a": "b", "n": 1}
    )
    await eventually(lambda: received)
    (entry,) = await logs.entries("alice")
    (batch,) = received
    assert (batch.exchange, batch.routing_key) == ("amq.topic", f"demo-user{SID}")
    assert (batch.properties.type, batch.properties.delivery_mode) == (BATCH_TYPE, 1)
    assert copies_in(received) == [("alice/queue/demo", entry)]
    assert (entry.body, entry.content_type, entry.producer_message_id) == (b"hi", "text/plain", "m1")
    assert entry.headers == {"x-a": "b"}
    assert entry.expires_ms > entry.id.ms


async def test_copies_go_only_to_sessions_with_that_destination(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    other = Destination("topic", "news")
    demo, news = await consume_session(gateway), await consume_session(gateway, other, "b" * 26)
    await logs.register("alice", SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    await logs.register("alice", "b" * 26, SessionEntry(GATEWAY, (other,)).encode())
    producing.send("alice", "1", destination="/topic/news")
    producing.send("alice", "2")
    producing.send("bob", "3")
    await eventually(lambda: demo and news)
    await eventually(lambda: logs.bodies("bob"))
    assert (bodies_in(demo), bodies_in(news)) == ([b"2"], [b"1"])


async def test_a_returned_copy_goes_to_the_gateways_own_queue(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    received = await consume_gateway_queue(gateway)
    await logs.register("alice", SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    producing.send("alice", "hi")
    await eventually(lambda: received)
    assert (received[0].exchange, received[0].routing_key) == ("", f"pushcluster.gateway.{GATEWAY}")
    assert bodies_in(received) == [b"hi"]
    await eventually(lambda: dispatcher.metric("copies_fallback_total"))
    assert await dispatcher.metric("copies_lost_total") == 0


async def test_two_sessions_at_one_gateway_get_one_copy_on_its_own_queue(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    received, own = await consume_gateway_queue(gateway), await consume_session(gateway)
    for sid in (SID, "b" * 26):
        await logs.register("alice", sid, SessionEntry(GATEWAY, (DEMO,)).encode())
    producing.send("alice", "hi")
    await eventually(lambda: received)
    await dispatcher.wait_for_metric("copies_sent_total", 1)
    assert (bodies_in(received), own) == ([b"hi"], [])


async def test_a_copy_that_nobody_takes_is_counted_and_the_log_has_it(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    await logs.register("alice", SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    producing.send("alice", "hi")
    await eventually(lambda: dispatcher.metric("copies_lost_total"))
    assert await logs.bodies("alice") == ["hi"]
    await all_acknowledged(plane, dispatcher, 1)


async def test_mode_broadcast_sends_one_copy_to_all_gateways(
    plane: Plane, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    received = await consume_gateway_queue(gateway)
    async with running_dispatcher(plane, ROUTING_MODE="Broadcast"):
        producing.send("alice", "hi")
        await eventually(lambda: received)
    assert (received[0].exchange, bodies_in(received)) == ("push.broadcast", [b"hi"])
    assert await logs.bodies("alice") == ["hi"]


@pytest.mark.parametrize("mode", ["Gateway", "Broadcast"])
async def test_what_goes_to_one_gateway_at_one_time_is_joined_and_in_order(
    plane: Plane, producing: Producer, logs: Logs, gateway: AmqpChannel, mode: str
) -> None:
    received = await consume_gateway_queue(gateway)
    users = [f"user{n}" for n in range(20)]
    for user in users:
        await logs.register(user, SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    for n in range(2_000):
        producing.send(users[n % 20], str(n))
    await producing.confirmed()
    async with running_dispatcher(plane, ROUTING_MODE=mode) as dispatcher:
        await eventually(lambda: len(copies_in(received)) == 2_000)
        await dispatcher.wait_for_metric("batches_sent_total", len(received))
        assert await dispatcher.metric("batches_sent_total") == len(received) < 1_000
    for user in users:
        got = [int(entry.body) for address, entry in copies_in(received) if address == f"{user}/queue/demo"]
        assert got == list(range(users.index(user), 2_000, 20))
