"""The way of a message through a dispatcher process, with real RabbitMQ and Redis (steps D0 to D4)."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.batch import BATCH_TYPE, parse_batch, parse_copy
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.headers import REJECT_REASON, REJECT_USER
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES, MAX_BODY_BYTES
from pushcluster_contract.log import LogEntry
from pushcluster_contract.routing import TOPIC_EXCHANGE, session_key, subscription_queue
from pushcluster_contract.sessions import SessionEntry
from pushcluster_contract.topology import (
    PUSH_EXCHANGE,
    REJECTED_QUEUE,
    Binding,
    build_gateway_queue,
    build_subscription_queue,
)
from pushcluster_runtime.amqp import Amqp, AmqpChannel, Delivery
from tests.support.amqp_admin import AmqpAdmin
from tests.support.dispatchers import (
    DEMO,
    Logs,
    Producer,
    RunningDispatcher,
    all_acknowledged,
    consuming,
    running_dispatcher,
    started_dispatcher,
)
from tests.support.planes import Plane
from tests.support.waiting import eventually

WITHIN_S: Final = 20.0
SID: Final = "a" * 26
GATEWAY: Final = Incarnation("pod", "0" * 16)


@pytest.fixture
async def gateway(plane: Plane) -> AsyncIterator[AmqpChannel]:
    """A channel on a connection as a gateway has one: exclusive queues live on it."""
    amqp = await Amqp.connect(plane.amqp_url, name="gateway")
    yield await amqp.channel()
    await amqp.close()


async def consume_session(gateway: AmqpChannel, destination: Destination = DEMO, sid: str = SID) -> list[Delivery]:
    """Do what a gateway does at a SUBSCRIBE, and return where copies will appear (step G3)."""
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


async def test_a_message_is_in_the_log_before_it_leaves_ingress(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    producing.send(
        "alice", b"\x00\xff", message_id="m1", content_type="text/plain", headers={"x-kind": "news", "other": 1}
    )
    await producing.confirmed()
    await eventually(lambda: dispatcher.metric("acknowledged_total"), WITHIN_S)
    (entry,) = await logs.entries("alice")
    assert (entry.body, entry.content_type, entry.producer_message_id) == (b"\x00\xff", "text/plain", "m1")
    assert entry.headers == {"x-kind": "news"}
    await all_acknowledged(plane, dispatcher, 1)


async def test_many_messages_of_many_users_are_all_in_order(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    for n in range(2_000):
        producing.send(f"user{n % 40}", str(n))
    await producing.confirmed()
    for user in range(40):
        expected = [str(n) for n in range(user, 2_000, 40)]
        await wait_log(logs, f"user{user}", expected)
    entries = await logs.entries("user7")
    assert [entry.id.seq for entry in entries] == list(range(1, 51))


async def wait_log(logs: Logs, user: str, expected: list[str]) -> None:
    async def is_there() -> bool:
        assert await logs.bodies(user) == expected
        return True

    await eventually(is_there, WITHIN_S)


async def test_the_copy_goes_to_the_queue_of_the_session_with_all_that_the_gateway_needs(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    received = await consume_session(gateway)
    await logs.register("alice", SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    producing.send(
        "alice", "hi", message_id="m1", content_type="text/plain", expiration="60000", headers={"x-a": "b", "n": 1}
    )
    await eventually(lambda: received, WITHIN_S)
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
    await eventually(lambda: demo and news, WITHIN_S)
    await eventually(lambda: logs.bodies("bob"), WITHIN_S)
    assert (bodies_in(demo), bodies_in(news)) == ([b"2"], [b"1"])


async def test_a_returned_copy_goes_to_the_gateways_own_queue(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    received = await consume_gateway_queue(gateway)
    await logs.register("alice", SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    producing.send("alice", "hi")
    await eventually(lambda: received, WITHIN_S)
    assert (received[0].exchange, received[0].routing_key) == ("", f"pushcluster.gateway.{GATEWAY}")
    assert bodies_in(received) == [b"hi"]
    await eventually(lambda: dispatcher.metric("copies_fallback_total"), WITHIN_S)
    assert await dispatcher.metric("copies_lost_total") == 0


async def test_a_copy_that_nobody_takes_is_counted_and_the_log_has_it(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    await logs.register("alice", SID, SessionEntry(GATEWAY, (DEMO,)).encode())
    producing.send("alice", "hi")
    await eventually(lambda: dispatcher.metric("copies_lost_total"), WITHIN_S)
    assert await logs.bodies("alice") == ["hi"]
    await all_acknowledged(plane, dispatcher, 1)


async def test_the_same_message_id_is_one_message(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    for _ in range(5):
        producing.send("alice", "hi", message_id="m1")
    producing.send("alice", "end", message_id="m2")
    await eventually(lambda: dispatcher.metric("acknowledged_total"), WITHIN_S)
    await wait_log(logs, "alice", ["hi", "end"])
    assert await dispatcher.metric("duplicates_total") == 4


async def test_the_limits_of_offline_delivery_are_kept_and_what_falls_out_is_counted(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane, OFFLINE_MAX_PER_DESTINATION="3") as dispatcher:
        for n in range(10):
            producing.send("alice", str(n))
        await wait_log(logs, "alice", ["7", "8", "9"])
        await eventually(lambda: dispatcher.metric("dropped_undelivered_total"), WITHIN_S)
        assert await dispatcher.metric("dropped_undelivered_total") == 7


async def test_mode_broadcast_sends_one_copy_to_all_gateways(
    plane: Plane, producing: Producer, logs: Logs, gateway: AmqpChannel
) -> None:
    received = await consume_gateway_queue(gateway)
    async with running_dispatcher(plane, ROUTING_MODE="Broadcast"):
        producing.send("alice", "hi")
        await eventually(lambda: received, WITHIN_S)
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
        await eventually(lambda: len(copies_in(received)) == 2_000, WITHIN_S)
        assert await dispatcher.metric("batches_sent_total") == len(received) < 1_000
    for user in users:
        got = [int(entry.body) for address, entry in copies_in(received) if address == f"{user}/queue/demo"]
        assert got == list(range(users.index(user), 2_000, 20))


class Milliseconds(BasicProperties):
    """What Java sends for a header of the type Date made from milliseconds; pika cannot read it."""

    def encode(self) -> list[bytes]:
        table = bytes([4]) + b"when" + b"T" + struct.pack(">Q", 1_700_000_000_000)
        return [struct.pack(">H", 1 << 13), struct.pack(">I", len(table)) + table]


class Latin1(BasicProperties):
    """A content type that is not UTF-8."""

    def encode(self) -> list[bytes]:
        return [struct.pack(">H", 1 << 15), bytes([3]) + b"t/\xe4"]


GOOD: Final = {"destination": "/queue/demo"}


@dataclass(frozen=True, slots=True)
class Malformed:
    reason: str
    properties: BasicProperties
    user: str = "alice"
    body: bytes = b"x"


MALFORMED: Final = {
    "no destination": Malformed("header 'destination' is missing", BasicProperties()),
    "a dot in the name": Malformed("/queue/<name>", BasicProperties(headers={"destination": "/queue/a.b"})),
    "a hash in the name": Malformed("/queue/<name>", BasicProperties(headers={"destination": "/queue/#"})),
    "a number as destination": Malformed("no UTF-8 text", BasicProperties(headers={"destination": 5})),
    "no user": Malformed("0 bytes", BasicProperties(headers=GOOD), user=""),
    "a tab in the user": Malformed("control", BasicProperties(headers=GOOD), user="a\tb"),
    "too large": Malformed("65537 bytes", BasicProperties(headers=GOOD), body=b"x" * (MAX_BODY_BYTES + 1)),
    "as large as the broker takes": Malformed(
        "131072 bytes", BasicProperties(headers=GOOD), body=b"x" * BROKER_MAX_MESSAGE_BYTES
    ),
    "a table": Malformed("neither text", BasicProperties(headers={**GOOD, "x-t": {"a": 1}})),
    "large headers": Malformed("forwarded headers", BasicProperties(headers={**GOOD, "x-t": "y" * 9_999})),
    "headers as large as a frame": Malformed(
        "left out", BasicProperties(headers={**GOOD, **{f"h{n}": "z" * 999 for n in range(125)}, "x-t": []})
    ),
    "a line break in the message id": Malformed("printable", BasicProperties(headers=GOOD, message_id="a\nb")),
    "a line break in the content type": Malformed("control", BasicProperties(headers=GOOD, content_type="a\nb")),
    "a timestamp in milliseconds": Malformed("cannot be read", Milliseconds()),
    "a content type in latin-1": Malformed("missing", Latin1()),
}


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_message_is_kept_with_the_reason_and_stops_nothing(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs, case: Malformed
) -> None:
    async with consuming(plane) as rejected:
        await producing.channel.publish(PUSH_EXCHANGE, case.user, case.body, case.properties, mandatory=False)
        await eventually(lambda: rejected, WITHIN_S)
        headers = dict[str, Any](rejected[0].properties.headers or {})
        assert case.reason in headers[REJECT_REASON]
        assert headers[REJECT_USER] == case.user
        assert rejected[0].body == case.body
        producing.send("alice", "good")
        await wait_log(logs, "alice", ["good"])


async def test_a_message_larger_than_the_broker_takes_costs_its_publisher_the_channel_with_the_reason(
    plane: Plane, producing: Producer
) -> None:
    with pytest.raises(Unavailable, match="larger than configured max size"):
        await producing.send("alice", b"x" * (BROKER_MAX_MESSAGE_BYTES + 1))
    assert str(BROKER_MAX_MESSAGE_BYTES) in producing.channel.lost.result()


async def test_large_messages_are_held_within_bounds_and_stay_in_order(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    """400 bodies are 26 MB, and a partition holds 2 MiB: it has to begin again with a smaller prefetch."""
    bodies = [f"{n:>{MAX_BODY_BYTES}}" for n in range(400)]
    for body in bodies:
        producing.send("alice", body, message_id=body.strip())
    await producing.confirmed()
    async with running_dispatcher(plane) as dispatcher:
        producing.send("alice", "small", message_id="small")

        async def is_there() -> bool:
            return await logs.length("alice") == 401

        await eventually(is_there, 2 * WITHIN_S)
        assert await logs.bodies("alice") == [*bodies, "small"]
        assert await dispatcher.metric("duplicates_total") == 0
        assert await dispatcher.metric("partition_restarts_total") >= 1
        assert await dispatcher.metric("partition_resets_total") == 0
        await all_acknowledged(plane, dispatcher, 401)


async def test_a_rejected_message_does_not_expire_a_second_time(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer
) -> None:
    producing.send("alice", "x", destination=None, expiration="60000", reply_to="q", message_id="m")
    async with consuming(plane) as rejected:
        await eventually(lambda: rejected, WITHIN_S)
    assert (rejected[0].properties.expiration, rejected[0].properties.reply_to) == (None, None)
    assert (rejected[0].properties.message_id, rejected[0].properties.delivery_mode) == ("m", 2)


async def test_what_expires_in_ingress_goes_to_push_rejected(plane: Plane, producing: Producer, logs: Logs) -> None:
    producing.send("alice", "late", expiration="1")
    producing.send("alice", "in time", expiration="60000")
    await producing.confirmed()
    async with consuming(plane) as rejected:
        await eventually(lambda: rejected, WITHIN_S)
        assert [delivery.body for delivery in rejected] == [b"late"]
        async with running_dispatcher(plane):
            await wait_log(logs, "alice", ["in time"])
    (entry,) = await logs.entries("alice")
    assert 0 < entry.expires_ms - entry.id.ms <= 60_000


async def test_a_message_that_redis_will_never_take_is_kept_with_the_reason(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    await logs.redis.set(logs.keys.log("alice", DEMO), "not a stream")
    async with consuming(plane) as rejected:
        producing.send("alice", "1")
        producing.send("bob", "2")
        await eventually(lambda: rejected, WITHIN_S)
        assert "WRONGTYPE" in str((rejected[0].properties.headers or {})[REJECT_REASON])
        await wait_log(logs, "bob", ["2"])
    assert await dispatcher.metric("rejected_total", reason="script") == 1


async def test_two_dispatchers_share_the_partitions_and_one_takes_over_in_order(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane) as first, running_dispatcher(plane) as second:
        for n in range(1_000):
            producing.send(f"user{n % 50}", str(n), message_id=str(n))
        await producing.confirmed()
        await eventually(lambda: all_there(logs, 50, 1_000), WITHIN_S)
        counts = [await each.metric("received_total") for each in (first, second)]
        assert min(counts) > 0
        for n in range(1_000, 3_000):
            producing.send(f"user{n % 50}", str(n), message_id=str(n))
            if n == 2_000:
                leaving = asyncio.create_task(first.terminate())
        await producing.confirmed()
        assert await leaving == 0
        await eventually(lambda: all_there(logs, 50, 3_000), WITHIN_S)
        for user in range(50):
            assert await logs.bodies(f"user{user}") == [str(n) for n in range(user, 3_000, 50)]


async def all_there(logs: Logs, users: int, messages: int) -> bool:
    return sum([await logs.length(f"user{n}") for n in range(users)]) == messages


async def test_readiness_says_what_is_missing(plane: Plane, amqp_admin: AmqpAdmin) -> None:
    nowhere = plane.amqp_url.replace(plane.vhost, "nowhere")
    async with started_dispatcher(plane, AMQP_URL=nowhere) as dispatcher:

        async def says_why() -> bool:
            ready, reason = await dispatcher.ready()
            return not ready and "nowhere" in reason

        await eventually(says_why, WITHIN_S)
        assert await dispatcher.terminate() == 0
    queues = await amqp_admin.queues(plane.vhost)
    assert REJECTED_QUEUE not in queues


@pytest.mark.parametrize(
    ("variables", "named"),
    [({"ROUTING_MODE": "Direct"}, "PUSHCLUSTER_ROUTING_MODE"), ({"API_KEY": ""}, "PUSHCLUSTER_API_KEY")],
)
async def test_a_wrong_setting_ends_the_process_with_its_name(
    plane: Plane, variables: dict[str, str], named: str
) -> None:
    async with started_dispatcher(plane, **variables) as dispatcher:
        assert await dispatcher.process.wait() == 2
        (line,) = dispatcher.log().splitlines()
        assert named in json.loads(line)["message"]
