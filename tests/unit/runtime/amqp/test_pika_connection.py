"""What pika cannot read must not end the connection. No broker: frames are put into the connection's buffer."""

import struct
from typing import Any

import pytest
from pika import frame, spec

from pushcluster_runtime.amqp import UNREADABLE_HEADER
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
