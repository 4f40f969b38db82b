"""The short way in and out, held against pika's own encoder and decoder."""

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import ShortStringTooLong
from pika.spec import Basic, BasicProperties

from pushcluster_runtime.amqp.frames import (
    FOREIGN,
    INCOMPLETE,
    MAX_WHOLE_BYTES,
    UNREADABLE_HEADER,
    Delivery,
    PropertiesTemplate,
    decode_properties,
    encode_ack,
    encode_properties,
    encode_publish,
    scan_ack,
    scan_delivery,
)

FRAME_MAX = 131_072
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PROPERTIES = st.builds(
    BasicProperties,
    content_type=st.none() | TEXT,
    content_encoding=st.none() | TEXT,
    headers=st.none()
    | st.dictionaries(TEXT, TEXT | st.integers(-(2**31), 2**31) | st.booleans() | st.none(), max_size=4),
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    message_id=st.none() | TEXT,
    expiration=st.none() | TEXT,
    type=st.none() | TEXT,
)


def frames_of(channel: int, method: Any, properties: BasicProperties, body: bytes, frame_max: int) -> list[bytes]:
    """What pika sends, or RabbitMQ."""
    room = frame_max - 8
    parts = [body[start : start + room] for start in range(0, len(body), room)]
    return [
        frame.Method(channel, method).marshal(),
        frame.Header(channel, len(body), properties).marshal(),
        *(frame.Body(channel, part).marshal() for part in parts),
    ]


def deliver(
    body: bytes = b"hi", *, properties: BasicProperties | None = None, routing_key: Any = "alice"
) -> list[bytes]:
    method = Basic.Deliver("1.queue", 7, True, "push", routing_key)
    return frames_of(3, method, properties or BasicProperties(), body, 64)


@given(TEXT, TEXT, PROPERTIES, st.binary(max_size=300), st.booleans(), st.sampled_from([4_096, FRAME_MAX]))
def test_a_publish_is_byte_for_byte_what_pika_sends(
    exchange: str, routing_key: str, properties: BasicProperties, body: bytes, mandatory: bool, frame_max: int
) -> None:
    expected = frames_of(9, Basic.Publish(0, exchange, routing_key, mandatory), properties, body, frame_max)
    encoded = encode_properties(properties)
    got = encode_publish(9, exchange, routing_key, encoded, body, mandatory=mandatory, frame_max=frame_max)
    assert got == b"".join(expected)


@pytest.mark.parametrize("size", [0, 1, 4_087, 4_088, 4_089, 10_000])
def test_a_body_is_cut_where_pika_cuts_it(size: int) -> None:
    body = bytes(size)
    expected = b"".join(frames_of(1, Basic.Publish(0, "", "q", False), BasicProperties(), body, 4_096))
    assert (
        encode_publish(1, "", "q", encode_properties(BasicProperties()), body, mandatory=False, frame_max=4_096)
        == expected
    )


def test_properties_that_just_fit_a_frame_are_sent_and_one_byte_more_is_refused() -> None:
    frames = encode_publish(1, "", "q", b"\0" * (4_096 - 8 - 12), b"", mandatory=False, frame_max=4_096)
    assert len(frames) > 4_096
    with pytest.raises(ValueError, match="do not fit into one frame"):
        encode_publish(1, "", "q", b"\0" * (4_096 - 8 - 11), b"", mandatory=False, frame_max=4_096)


@pytest.mark.parametrize(("exchange", "key"), [("", "k" * 256), ("", "ä" * 128), ("e" * 256, ""), ("é" * 128, "k")])
def test_a_name_that_is_too_long_is_refused_as_by_pika(exchange: str, key: str) -> None:
    with pytest.raises(ShortStringTooLong) as expected:
        frame.Method(1, Basic.Publish(0, exchange, key)).marshal()
    with pytest.raises(ShortStringTooLong) as refused:
        encode_publish(1, exchange, key, b"\0\0", b"", mandatory=False, frame_max=4_096)
    assert refused.value.args == expected.value.args


def test_names_of_just_the_limit_are_sent() -> None:
    expected = frame.Method(1, Basic.Publish(0, "e" * 255, "ä" * 127 + "k", True)).marshal()
    frames = encode_publish(1, "e" * 255, "ä" * 127 + "k", b"\0\0", b"", mandatory=True, frame_max=4_096)
    assert frames.startswith(expected)


@given(
    st.builds(Basic.Deliver, TEXT, st.integers(0, 2**63), st.booleans(), TEXT, TEXT),
    PROPERTIES,
    st.binary(max_size=300),
    st.binary(max_size=9),
)
def test_a_delivery_is_what_pika_reads(
    method: Basic.Deliver, properties: BasicProperties, body: bytes, rest: bytes
) -> None:
    data = b"before" + b"".join(frames_of(5, method, properties, body, 64)) + rest
    found = scan_delivery(data, 6)
    assert isinstance(found, tuple)
    end, channel, got = found
    assert (end, channel) == (len(data) - len(rest), 5)
    assert (got.consumer_tag, got.tag, got.redelivered) == (
        method.consumer_tag,
        method.delivery_tag,
        method.redelivered,
    )
    assert (got.exchange, got.routing_key, got.body) == (method.exchange, method.routing_key, body)
    _, header = frame.decode_frame(frame.Header(5, len(body), properties).marshal())
    assert isinstance(header, frame.Header)
    assert vars(got.properties) == vars(header.properties)


def test_every_cut_of_a_delivery_is_incomplete() -> None:
    data = b"".join(deliver(b"x" * 100, properties=BasicProperties(headers={"a": "b"})))
    assert {scan_delivery(data[:end], 0) for end in range(11, len(data))} == {INCOMPLETE}


def test_a_delivery_of_just_the_limit_is_read_whole_and_a_larger_one_is_left_to_pika() -> None:
    for size, whole in ((MAX_WHOLE_BYTES, True), (MAX_WHOLE_BYTES + 1, False)):
        method = Basic.Deliver("1.queue", 7, False, "push", "alice")
        body = bytes(size)
        found = scan_delivery(b"".join(frames_of(3, method, BasicProperties(), body, FRAME_MAX)), 0)
        assert isinstance(found, tuple) == whole
        assert found == FOREIGN or (isinstance(found, tuple) and found[2].body == body)


def test_an_incomplete_delivery_is_not_copied() -> None:
    method = Basic.Deliver("1.queue", 7, False, "push", "alice")
    data = b"".join(frames_of(3, method, BasicProperties(), bytes(MAX_WHOLE_BYTES), FRAME_MAX))[:-1]
    tracemalloc.start()
    assert scan_delivery(data, 0) == INCOMPLETE
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000


@pytest.mark.parametrize(
    "data",
    [
        frame.Heartbeat().marshal(),
        frame.Method(1, Basic.Ack(5)).marshal(),
        b"".join(frames_of(1, Basic.Return(312, "NO_ROUTE", "", "k"), BasicProperties(), b"x", 64)),
        b"".join([deliver()[0], frame.Heartbeat().marshal() * 3]),
        b"".join([*deliver()[:2], frame.Heartbeat().marshal()]),
        b"".join([deliver()[0], frame.Header(4, 2, BasicProperties()).marshal(), *deliver()[2:]]),
        b"".join(deliver(routing_key=b"\xff")),
        b"".join([frame.Body(3, deliver()[0][7:-1]).marshal(), *deliver()[1:]]),
        b"".join([*deliver()[:2], frame.Body(4, b"hi").marshal()]),
        b"".join([deliver()[0], frame.Body(3, deliver()[1][7:-1]).marshal(), *deliver()[2:]]),
        b"".join([*deliver()[:2], b"\x02" + deliver()[2][1:]]),
        b"".join([deliver()[0], deliver()[1][:7] + b"\0\x32" + deliver()[1][9:], *deliver()[2:]]),
    ],
    ids=[
        "heartbeat",
        "ack",
        "return",
        "no header",
        "no body",
        "another channel",
        "not UTF-8",
        "a body that looks like a delivery",
        "a body of another channel",
        "a body that looks like the header",
        "a header that looks like the body",
        "a header of another class",
    ],
)
def test_frames_that_are_not_a_usual_delivery_are_left_to_pika(data: bytes) -> None:
    assert scan_delivery(data, 0) == FOREIGN


def test_frames_that_do_not_end_where_they_say_are_an_error() -> None:
    method, header, body = deliver()
    for broken in ([method[:-1] + b"\0", header, body], [method, header, body[:-1] + b"\0"]):
        with pytest.raises(ValueError, match="do not end"):
            scan_delivery(b"".join(broken), 0)


@given(st.integers(1, 2**16 - 1), st.integers(0, 2**64 - 1), st.booleans(), st.binary(max_size=9))
def test_an_acknowledgement_is_written_and_read_as_by_pika(
    channel: int, number: int, multiple: bool, rest: bytes
) -> None:
    expected = frame.Method(channel, Basic.Ack(number, multiple)).marshal()
    assert encode_ack(channel, number, multiple=multiple) == expected
    assert scan_ack(b"before" + expected + rest, 6) == (6 + len(expected), channel, number, multiple)


def test_every_cut_of_an_acknowledgement_is_left_to_pika() -> None:
    data = frame.Method(1, Basic.Ack(7)).marshal()
    assert [scan_ack(data[:end], 0) for end in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    "data",
    [
        frame.Method(1, Basic.Nack(7)).marshal(),
        frame.Method(1, Basic.Reject(7)).marshal(),
        frame.Body(1, frame.Method(1, Basic.Ack(7)).marshal()[7:-1]).marshal(),
        frame.Method(1, Basic.Ack(7)).marshal()[:-1] + b"\0",
        frame.Method(1, Basic.Ack(7)).marshal()[:6] + b"\x0e" + frame.Method(1, Basic.Ack(7)).marshal()[7:],
    ],
    ids=["nack", "reject", "a body that looks like an ack", "another end", "another size"],
)
def test_frames_that_are_no_acknowledgement_are_left_to_pika(data: bytes) -> None:
    assert scan_ack(data + bytes(9), 0) is None


def test_an_acknowledgement_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(struct.error):
        encode_ack(1, 2**64, multiple=False)


def test_a_template_differs_from_pika_in_nothing() -> None:
    properties = BasicProperties(type="t", delivery_mode=1, headers={"x": "y"})
    template = PropertiesTemplate(properties)
    for number in (1, 2**31, 2**62):
        expected = BasicProperties(type="t", delivery_mode=1, headers={"x": "y", "pc-seq": number})
        assert vars(decode_properties(template.encode(number))) == vars(expected)
    assert properties.headers == {"x": "y"}


def test_floats_of_the_first_level_are_read_as_floats() -> None:
    table = b"\x01fd" + struct.pack(">d", 2.5) + b"\x01gf" + struct.pack(">f", 0.5) + b"\x01sS\0\0\0\x01x"
    data = (BasicProperties.FLAG_HEADERS | BasicProperties.FLAG_CONTENT_TYPE).to_bytes(2) + b"\x02ct"
    assert decode_properties(data + struct.pack(">I", len(table)) + table).headers == {"f": 2.5, "g": 0.5, "s": "x"}


def test_properties_that_cannot_be_read_become_a_header_that_says_so() -> None:
    table = b"\x04whenT" + struct.pack(">Q", 1_700_000_000_000)
    data = BasicProperties.FLAG_HEADERS.to_bytes(2) + struct.pack(">I", len(table)) + table
    headers = Delivery(1, "", "", False, data, b"", "").properties.headers
    assert headers is not None
    assert list(headers) == [UNREADABLE_HEADER]
    assert spec.FRAME_END == 206
