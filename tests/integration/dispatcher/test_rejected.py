"""What a dispatcher sends to push.rejected, with real RabbitMQ and Redis."""

import struct
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.headers import REJECT_REASON, REJECT_USER
from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES, MAX_BODY_BYTES
from pushcluster_contract.topology import (
    PUSH_EXCHANGE,
)
from tests.support.dispatchers import (
    DEMO,
    Logs,
    Producer,
    RunningDispatcher,
    consuming,
    running_dispatcher,
    wait_log,
)
from tests.support.planes import Plane
from tests.support.waiting import eventually


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
    "a number as destination": Malformed("not UTF-8 text", BasicProperties(headers={"destination": 5})),
    "no user": Malformed("0 bytes", BasicProperties(headers=GOOD), user=""),
    "a tab in the user": Malformed("control", BasicProperties(headers=GOOD), user="a\tb"),
    "too large": Malformed("65537 bytes", BasicProperties(headers=GOOD), body=b"x" * (MAX_BODY_BYTES + 1)),
    "as large as the broker takes": Malformed(
        "131072 bytes", BasicProperties(headers=GOOD), body=b"x" * BROKER_MAX_MESSAGE_BYTES
    ),
    "a table": Malformed("neither text", BasicProperties(headers={**GOOD, "x-t": {"a": 1}})),
    "a priority": Malformed("leave it unset", BasicProperties(headers=GOOD, priority=9)),
    "further users, or this one again": Malformed(
        "one message for each user", BasicProperties(headers={**GOOD, "CC": ["alice"]})
    ),
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
        await eventually(lambda: rejected)
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


async def test_a_rejected_message_does_not_expire_a_second_time(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer
) -> None:
    producing.send("alice", "x", destination=None, expiration="60000", reply_to="q", message_id="m")
    async with consuming(plane) as rejected:
        await eventually(lambda: rejected)
    assert (rejected[0].properties.expiration, rejected[0].properties.reply_to) == (None, None)
    assert (rejected[0].properties.message_id, rejected[0].properties.delivery_mode) == ("m", 2)


async def test_what_expires_in_ingress_goes_to_push_rejected(plane: Plane, producing: Producer, logs: Logs) -> None:
    producing.send("alice", "late", expiration="1")
    producing.send("alice", "in time", expiration="60000")
    await producing.confirmed()
    async with consuming(plane) as rejected:
        await eventually(lambda: rejected)
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
        await eventually(lambda: rejected)
        assert "WRONGTYPE" in str((rejected[0].properties.headers or {})[REJECT_REASON])
        await wait_log(logs, "bob", ["2"])
    await dispatcher.wait_for_metric("rejected_total", 1, reason="script")
    assert await dispatcher.metric("rejected_total", reason="script") == 1
