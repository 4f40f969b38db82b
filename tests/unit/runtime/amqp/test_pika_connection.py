"""What the connection reads by itself is what pika would read, and what pika cannot read does not end the connection.

No broker: bytes are put into the connection.
"""

import struct
from random import Random
from typing import Any

import pytest
from pika import frame, spec

from pushcluster_runtime.amqp import UNREADABLE_HEADER, Delivery
from pushcluster_runtime.amqp.pika_connection import PikaConnection


def read(buffer: bytes) -> tuple[int, Any]:
    connection = object.__new__(PikaConnection)
    connection._frame_buffer = buffer
    return connection._read_frame()


def content_header(table: bytes, *, channel: int = 3, body_size: int = 77) -> bytes:
    headers_flag = 1 << 13
    payload = struct.pack(">HHQH", spec.Basic.INDEX, 0, body_size, headers_flag) + struct.pack(">I", len(table)) + table
    return struct.pack(">BHL", spec.FRAME_HEADER, channel, len(payload)) + payload + bytes([spec.FRAME_END])


def field(name: bytes, kind: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + kind + value


def nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = field(b"n", b"F", struct.pack(">I", len(table)) + table)
    return table


@pytest.mark.parametrize(
    "table",
    [
        field(b"when", b"T", struct.pack(">Q", 1_700_000_000_000)),
        field(b"ratio", b"d", struct.pack(">d", float("nan"))),
        field(b"ratio", b"d", struct.pack(">d", float("inf"))),
        nested(5_000),
    ],
    ids=["a timestamp in milliseconds", "not a number", "infinity", "5000 nested tables"],
)
def test_properties_that_pika_cannot_read_become_a_header_that_says_so(table: bytes) -> None:
    buffer = content_header(table)
    consumed, header = read(buffer + b"next frame")
    assert consumed == len(buffer)
    assert isinstance(header, frame.Header)
    assert (header.channel_number, header.body_size) == (3, 77)
    assert header.properties.headers is not None
    assert list(header.properties.headers) == [UNREADABLE_HEADER]


def test_readable_properties_are_read_as_they_are() -> None:
    _, header = read(content_header(field(b"destination", b"S", struct.pack(">I", 5) + b"/q/ue")))
    assert header.properties.headers == {"destination": "/q/ue"}


def test_a_broken_frame_of_another_kind_still_ends_the_connection() -> None:
    payload = struct.pack(">I", 0xFFFF_FFFF)
    buffer = struct.pack(">BHL", spec.FRAME_METHOD, 1, len(payload)) + payload + bytes([spec.FRAME_END])
    with pytest.raises(KeyError):
        read(buffer)


def test_half_a_frame_waits_for_its_rest() -> None:
    assert read(content_header(b"")[:-3]) == (0, None)


class Feed:
    """A connection that gets bytes, and what becomes of them. Channel 1 confirms, channel 2 has the consumer `tag`."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.fast = 0
        """How many events came without pika."""
        connection = object.__new__(PikaConnection)
        connection._frame_buffer = b""
        connection.bytes_received = 0
        connection._process_frame = self._take_frame
        connection.consumers = {(2, "tag"): self._take_delivery}
        connection.confirms = {1: self._take_confirm}
        self.connection = connection
        self._slow = Assembler(self.events)

    def _take_frame(self, value: Any) -> None:
        self._slow.take(value)

    def _take_delivery(self, got: Delivery) -> None:
        self.fast += 1
        self.events.append((2, got.tag, got.redelivered, got.exchange, got.routing_key, vars(got.properties), got.body))

    def _take_confirm(self, number: int, multiple: bool) -> None:
        self.fast += 1
        self.events.append((1, "Basic.Ack", number, multiple))


class Assembler:
    """Notes what pika's frames say."""

    def __init__(self, events: list[tuple[object, ...]]) -> None:
        self._events = events
        self._deliver: spec.Basic.Deliver | None = None
        self._header: frame.Header | None = None
        self._body = b""

    def take(self, value: Any) -> None:
        if isinstance(value, frame.Method) and isinstance(value.method, spec.Basic.Deliver):
            self._deliver, self._body = value.method, b""
        elif isinstance(value, frame.Method):
            numbers = (value.method.delivery_tag, value.method.multiple)
            self._events.append((value.channel_number, value.method.NAME, *numbers))
        elif isinstance(value, frame.Heartbeat):
            self._events.append(("heartbeat",))
        else:
            if isinstance(value, frame.Header):
                self._header = value
            else:
                self._body += value.fragment
            self._end(value.channel_number)

    def _end(self, channel: int) -> None:
        deliver, header = self._deliver, self._header
        assert deliver is not None
        assert header is not None
        if len(self._body) == header.body_size:
            self._events.append(
                (
                    channel,
                    deliver.delivery_tag,
                    deliver.redelivered,
                    deliver.exchange,
                    deliver.routing_key,
                    vars(header.properties),
                    self._body,
                )
            )


def some_frames(random: Random) -> tuple[bytes, bool]:
    """Return the frames of one event, and whether it is usual."""
    kind = random.randrange(10)
    if kind < 4:
        channel = random.choice([1, 1, 1, 3])
        method = spec.Basic.Ack(random.randrange(2 ** random.randrange(1, 64)), random.random() < 0.5)
        return frame.Method(channel, method).marshal(), channel == 1
    if kind < 8:
        tag = random.choice(["tag", "tag", "tag", "another"])
        key = "".join(random.choices("aä€-\x3c\x50", k=random.randrange(40)))
        body = random.randbytes(random.choice([0, 1, 30, 200, 1_000]))
        headers: Any = random.choice([None, {}, {"destination": "/queue/demo"}, {"n": 7, "t": {"deep": "x"}}])
        properties = spec.BasicProperties(headers=headers, delivery_mode=random.choice([None, 1, 2]))
        deliver = spec.Basic.Deliver(tag, random.randrange(2**63), random.random() < 0.5, "push", key)
        room = random.choice([16, 128, 4_088])
        parts = [body[start : start + room] for start in range(0, len(body), room)]
        frames = [
            frame.Method(2, deliver).marshal(),
            frame.Header(2, len(body), properties).marshal(),
            *(frame.Body(2, part).marshal() for part in parts),
        ]
        return b"".join(frames), tag == "tag"
    if kind == 8:
        return frame.Heartbeat().marshal(), False
    return frame.Method(1, spec.Basic.Nack(random.randrange(2**40), random.random() < 0.5, False)).marshal(), False


def read_by_pika(data: bytes) -> list[tuple[object, ...]]:
    events: list[tuple[object, ...]] = []
    assembler = Assembler(events)
    while data:
        size, value = frame.decode_frame(data)
        assembler.take(value)
        data = data[size:]
    return events


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_cut_anywhere_is_read_as_pika_reads_it_and_what_is_usual_without_pika(seed: int) -> None:
    random = Random(seed)
    written = [some_frames(random) for _ in range(100)]
    data = b"".join(frames for frames, _ in written)
    feed, position = Feed(), 0
    while position < len(data):
        size = random.choice([1, 2, 5, 9, 30, 500, 5_000])
        feed.connection._on_data_available(data[position : position + size])
        position += size
    assert feed.events == read_by_pika(data)
    usual = sum(usual for _, usual in written)
    assert feed.fast == usual > 40
    assert feed.connection._frame_buffer == b""
    assert feed.connection.bytes_received == len(data)


def test_damaged_acknowledgements_are_judged_by_pika() -> None:
    whole = frame.Method(1, spec.Basic.Ack(7, True)).marshal()
    judged: list[str] = []
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            feed, alone = Feed(), Feed()
            alone.connection.confirms = {}
            judgements = [judge(each, bytes(damaged)) for each in (feed, alone)]
            assert judgements[0] == judgements[1], f"bit {bit} of byte {at}"
            judged.append(judgements[0])
    assert len(set(judged)) > 70  # numbers, channels and errors
    assert sum(judgement.startswith("[(1, 'Basic.Ack'") for judgement in judged) > 64


def judge(feed: Feed, data: bytes) -> str:
    try:
        feed.connection._on_data_available(data)
    except Exception as error:
        return type(error).__name__
    return str(feed.events)
