import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as with_any
from hypothesis import settings
from hypothesis import strategies as st
from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_contract.outcomes import ReplyAddress
from pushcluster_dispatcher.messages import (
    CACHED_TABLE_BYTES,
    MAX_EXPIRATION_MS,
    Message,
    RejectClass,
    Rejection,
    parse_delivery,
    parse_expiration,
)
from pushcluster_runtime.amqp import UNREADABLE_HEADER, Delivery
from pushcluster_runtime.amqp.frames import encode_properties


def delivery(routing_key: Any = "alice", body: bytes = b"hi", **properties: Any) -> Delivery:
    properties.setdefault("headers", {"destination": "/queue/demo"})
    return Delivery(1, "push", routing_key, False, BasicProperties(**properties), body, "c")


def with_headers(**headers: Any) -> dict[str, Any]:
    return {"destination": "/queue/demo", **headers}


def test_a_plain_message_is_for_the_user_in_its_routing_key() -> None:
    assert parse_delivery(delivery()) == Message("alice", Destination("queue", "demo"), b"hi")


def test_everything_a_client_gets_is_read() -> None:
    parsed = parse_delivery(
        delivery(
            "bøb",
            b"",
            headers={"destination": "/topic/a_b-1", "x-kind": "news", "traceparent": "00-1", "private": 7},
            message_id="m1",
            content_type="application/json",
            expiration="1500",
        )
    )
    assert parsed == Message(
        "bøb",
        Destination("topic", "a_b-1"),
        b"",
        "application/json",
        "m1",
        {"x-kind": "news", "traceparent": "00-1"},
        1500,
    )


def test_where_outcomes_are_wanted_is_read() -> None:
    parsed = parse_delivery(delivery(reply_to="amq.gen-1", correlation_id="c\n1"))
    assert isinstance(parsed, Message)
    assert parsed.reply == ReplyAddress("amq.gen-1", "c\n1")


def test_a_correlation_id_alone_asks_for_nothing() -> None:
    parsed = parse_delivery(delivery(correlation_id=b"\xff"))
    assert isinstance(parsed, Message)
    assert parsed.reply is None


def test_a_body_of_the_largest_size_is_taken() -> None:
    assert isinstance(parse_delivery(delivery(body=b"x" * MAX_BODY_BYTES)), Message)


@pytest.mark.parametrize(("more", "kind"), [(0, Message), (1, Rejection)])
def test_a_body_one_byte_too_large_is_refused_also_in_a_plain_message(more: int, kind: type) -> None:
    encoded = encode_properties(BasicProperties(headers=with_headers()))
    body = b"x" * (MAX_BODY_BYTES + more)
    assert isinstance(parse_delivery(Delivery(1, "push", "alice", False, encoded, body, "c")), kind)


@pytest.mark.parametrize(
    ("given", "kind", "reason"),
    [
        (delivery(""), RejectClass.USER, "0 bytes"),
        (delivery("a\nb"), RejectClass.USER, "control"),
        (delivery(b"\xff"), RejectClass.USER, "not UTF-8"),
        (delivery(headers=None), RejectClass.DESTINATION, "missing"),
        (delivery(headers={}), RejectClass.DESTINATION, "missing"),
        (delivery(headers={"destination": "/queue/a.b"}), RejectClass.DESTINATION, "/queue/<name>"),
        (delivery(headers={"destination": "/user/queue/demo"}), RejectClass.DESTINATION, "/queue/<name>"),
        (delivery(headers={"destination": "/queue/" + "x" * 65}), RejectClass.DESTINATION, "1 to 64"),
        (delivery(headers={"destination": 7}), RejectClass.DESTINATION, "not UTF-8 text"),
        (delivery(headers={"destination": b"\xff"}), RejectClass.DESTINATION, "not UTF-8 text"),
        (delivery(body=b"x" * (MAX_BODY_BYTES + 1)), RejectClass.BODY, "65537 bytes"),
        (delivery(headers=with_headers(**{f"x-{n}": "" for n in range(33)})), RejectClass.HEADERS, "33 forwarded"),
        (delivery(headers=with_headers(**{"x-big": "x" * 5_000})), RejectClass.HEADERS, "forwarded headers"),
        (delivery(headers=with_headers(**{"x-table": {"a": 1}})), RejectClass.HEADERS, "neither text"),
        (delivery(headers=with_headers(**{"x-when": datetime(2026, 1, 1, tzinfo=UTC)})), RejectClass.HEADERS, "text"),
        (delivery(headers=with_headers(**{"x-sum": Decimal("1.5")})), RejectClass.HEADERS, "neither text"),
        (delivery(headers=with_headers(**{"x-bin": b"\xff\xfe"})), RejectClass.HEADERS, "not UTF-8"),
        (delivery(headers={"destination": "/queue/demo", b"\xff": "x"}), RejectClass.HEADERS, "not UTF-8 text"),
        (delivery(message_id="a\x00b"), RejectClass.MESSAGE_ID, "printable"),
        (delivery(message_id=b"\xff"), RejectClass.MESSAGE_ID, "not UTF-8"),
        (delivery(content_type="text/plain\nx: y"), RejectClass.CONTENT_TYPE, "control"),
        (delivery(content_type=b"\xff"), RejectClass.CONTENT_TYPE, "not UTF-8"),
        (delivery(expiration="soon"), RejectClass.EXPIRATION, "'soon'"),
        (delivery(priority=1), RejectClass.PRIORITY, "leave it unset"),
        (
            delivery(headers={"destination": "/queue/demo", "CC": ["bob"]}),
            RejectClass.HEADERS,
            "one message for each user",
        ),
        (delivery(expiration="-1"), RejectClass.EXPIRATION, "'-1'"),
        (delivery(expiration="²"), RejectClass.EXPIRATION, "whole number"),
        (delivery(reply_to="pushcluster.ingress.00"), RejectClass.REPLY_TO, "the cluster itself"),
        (delivery(reply_to="push.rejected"), RejectClass.REPLY_TO, "the cluster itself"),
        (delivery(reply_to=b"\xff"), RejectClass.REPLY_TO, "not UTF-8"),
        (delivery(reply_to="q", correlation_id=b"\xff"), RejectClass.REPLY_TO, "not UTF-8"),
        (delivery(headers={UNREADABLE_HEADER: "ValueError: year"}), RejectClass.PROPERTIES, "ValueError: year"),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Rejection) else None,
)
def test_a_malformed_message_is_refused_with_a_reason(given: Delivery, kind: RejectClass, reason: str) -> None:
    parsed = parse_delivery(given)
    assert isinstance(parsed, Rejection)
    assert parsed.kind is kind
    assert reason in parsed.reason


@pytest.mark.parametrize("kind", RejectClass)
def test_each_class_of_rejections_is_counted_under_its_name(kind: RejectClass) -> None:
    assert kind.value == kind.name.lower()


@pytest.mark.parametrize(
    ("user", "is_user"),
    [("", False), ("u" * 255, True), ("é" * 127 + "u", True), ("u" * 256, False), ("é" * 128, False)],
)
def test_a_user_of_a_plain_message_has_1_to_255_bytes(user: str, is_user: bool) -> None:
    encoded = encode_properties(BasicProperties(headers=with_headers()))
    assert isinstance(parse_delivery(Delivery(1, "push", user, False, encoded, b"", "c")), Message) is is_user


@pytest.mark.parametrize("wrong", [{"message_id": "a\nb"}, {"content_type": "a\nb"}])
def test_one_unprintable_property_of_a_plain_message_is_enough_to_refuse_it(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"message_id": "m", "content_type": "text/plain"}
    encoded = encode_properties(BasicProperties(headers=with_headers(), **{**right, **wrong}))
    assert isinstance(parse_delivery(Delivery(1, "push", "alice", False, encoded, b"", "c")), Rejection)


def test_a_plain_message_with_everything_it_may_have_is_read_in_the_right_order() -> None:
    headers = with_headers(**{"x-a": "b"})
    encoded = encode_properties(
        BasicProperties(headers=headers, message_id="m", content_type="text/plain", delivery_mode=2)
    )
    given = Delivery(1, "push", "alice", False, encoded, b"hi", "c")
    expected = Message("alice", Destination("queue", "demo"), b"hi", "text/plain", "m", {"x-a": "b"})
    assert parse_delivery(given) == expected
    assert given._properties is None, "it is read without decoding all properties"


def test_headers_too_long_to_be_remembered_are_read_all_the_same() -> None:
    long = {"x-a": "b" * (CACHED_TABLE_BYTES + 1)}
    encoded = encode_properties(BasicProperties(headers=with_headers(**long)))
    parsed = parse_delivery(Delivery(1, "push", "alice", False, encoded, b"", "c"))
    assert isinstance(parsed, Message)
    assert parsed.headers == long


@pytest.mark.parametrize(
    ("digits", "ttl_ms"), [("1", 1), ("31622400000", 31_622_400_000), ("31622400001", 31_622_400_000)]
)
def test_a_message_waits_for_a_leap_year_at_most(digits: str, ttl_ms: int) -> None:
    assert parse_expiration(digits) == ttl_ms


def test_an_expiration_of_more_than_sixteen_digits_is_refused() -> None:
    assert parse_expiration("0" * 15 + "7") == 7
    with pytest.raises(InvalidInput):
        parse_expiration("0" * 16 + "7")


def test_the_priority_that_java_clients_always_send_is_taken() -> None:
    assert isinstance(parse_delivery(delivery(priority=0)), Message)


def test_an_expiration_of_zero_is_the_shortest_and_not_none() -> None:
    parsed = parse_delivery(delivery(expiration="0"))
    assert isinstance(parsed, Message)
    assert parsed.ttl_ms == 1


def test_a_very_long_expiration_is_cut_to_what_lua_counts_exactly() -> None:
    parsed = parse_delivery(delivery(expiration="9999999999999999"))
    assert isinstance(parsed, Message)
    assert parsed.ttl_ms == MAX_EXPIRATION_MS


def test_headers_that_the_broker_adds_are_not_forwarded() -> None:
    parsed = parse_delivery(delivery(headers=with_headers(**{"x-delivery-count": 3, "x-death": [{"count": 1}]})))
    assert isinstance(parsed, Message)
    assert parsed.headers is None


FIELD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=9), values, max_size=3),
    max_leaves=5,
)
SHORT_STRING = st.none() | st.text(max_size=60) | st.binary(max_size=60)


@with_any(
    routing_key=st.text(max_size=60) | st.binary(max_size=60),
    headers=st.none()
    | st.dictionaries(
        st.sampled_from(["destination", "x-a", "traceparent", UNREADABLE_HEADER]) | st.text() | st.binary(), FIELD
    ),
    message_id=SHORT_STRING,
    content_type=SHORT_STRING,
    expiration=SHORT_STRING,
    reply_to=SHORT_STRING,
    correlation_id=SHORT_STRING,
)
def test_whatever_pika_can_read_is_a_message_or_a_rejection(routing_key: Any, **properties: Any) -> None:
    parsed = parse_delivery(Delivery(1, "push", routing_key, False, BasicProperties(**properties), b"", "c"))
    assert isinstance(parsed, Message) or parsed.reason


USUAL: dict[str, st.SearchStrategy[Any]] = {
    "routing_key": st.sampled_from(["alice", "é" * 63, "x"]),
    "body": st.sampled_from([b"", b"x", b"x" * MAX_BODY_BYTES]),
    "headers": st.fixed_dictionaries(
        {"destination": st.sampled_from(["/queue/demo", "/topic/x"])},
        optional={
            "x-a": st.sampled_from(["", "text", "é", "x" * 600, 7, True]),
            "traceparent": st.text(max_size=9),
            "n": st.integers(0, 9),
            "x-death": st.just([{"count": 1}]),
        },
    ),
    "message_id": st.none() | st.text("aZ9-é", max_size=20),
    "content_type": st.none() | st.sampled_from(["", "text/plain"]),
    "delivery_mode": st.none() | st.just(2),
}
ODD: dict[str, st.SearchStrategy[Any]] = {
    "routing_key": st.sampled_from(["", "a\tb", "é" * 64, "x" * 255, "x" * 256]),
    "body": st.just(b"x" * (MAX_BODY_BYTES + 1)),
    "headers": st.none()
    | st.dictionaries(
        st.sampled_from(["destination", "x-a", "traceparent", "CC", UNREADABLE_HEADER]),
        st.sampled_from(["/queue/demo", "/queue/a.b", ""]) | st.text(max_size=9) | st.integers(0, 9),
        max_size=3,
    ),
    "message_id": st.text(max_size=20),
    "content_type": st.sampled_from(["a\nb", "\0"]),
    "expiration": st.just("5"),
    "priority": st.sampled_from([0, 1]),
    "reply_to": st.sampled_from(["q", "push.rejected"]),
}


def both_ways(routing_key: str, body: bytes, **properties: Any) -> tuple[Delivery, Delivery]:
    """Return a delivery as it comes, and one whose properties are decoded: that one goes the long way."""
    decoded = BasicProperties(**properties)
    encoded = encode_properties(decoded)
    short, long = (Delivery(1, "push", routing_key, False, each, body, "c") for each in (encoded, decoded))
    return short, long


@with_any(st.fixed_dictionaries(USUAL))
def test_the_short_way_takes_what_is_usual_and_gives_what_the_long_way_gives(usual: dict[str, Any]) -> None:
    short, long = both_ways(**usual)
    assert parse_delivery(short) == parse_delivery(long)
    assert short._properties is None, "it was decoded"


@pytest.mark.parametrize("name", ODD)
@settings(max_examples=20)
@with_any(st.data())
def test_with_one_thing_odd_the_short_way_gives_what_the_long_way_gives(name: str, data: st.DataObject) -> None:
    short, long = both_ways(**data.draw(st.fixed_dictionaries(USUAL | {name: ODD[name]})))
    assert parse_delivery(short) == parse_delivery(long)


def test_a_usual_message_is_read_without_its_properties_being_decoded() -> None:
    properties = BasicProperties(headers={"destination": "/queue/demo"}, message_id="m", delivery_mode=2)
    given = Delivery(1, "push", "alice", False, encode_properties(properties), b"hi", "c")
    assert parse_delivery(given) == Message("alice", Destination("queue", "demo"), b"hi", message_id="m")
    assert given._properties is None


@pytest.mark.parametrize(("kind", "form"), [(b"d", ">d"), (b"f", ">f")])
def test_a_float_reaches_the_client_as_it_was_sent(kind: bytes, form: str) -> None:
    table = b"\x0bdestinationS\x00\x00\x00\x0b/queue/demo" + b"\x03x-r" + kind + struct.pack(form, 1.5)
    encoded = BasicProperties.FLAG_HEADERS.to_bytes(2) + struct.pack(">I", len(table)) + table
    parsed = parse_delivery(Delivery(1, "push", "alice", False, encoded, b"", "c"))
    assert isinstance(parsed, Message)
    assert parsed.headers == {"x-r": "1.5"}
