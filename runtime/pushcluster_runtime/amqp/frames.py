"""Encode and decode the AMQP frames of hot paths, without an object for each frame. Pure.

pika makes some ten objects and twenty calls for every message. That costs more than all that the programs do with it.
This module handles content frames and acknowledgements as RabbitMQ and pika themselves send them. `scan_delivery` and
`scan_ack` leave everything else to pika. Tests compare the results with pika's own encoder and decoder. (AMQP 0-9-1,
sections 2.3.5 and 4.2.)
"""

import struct
from copy import copy
from functools import lru_cache
from typing import Any, Final, cast

from pika import spec
from pika.data import decode_short_string, decode_value
from pika.exceptions import ShortStringTooLong
from pika.spec import BasicProperties

from pushcluster_runtime.amqp.confirms import SEQUENCE_HEADER

_FRAME: Final = struct.Struct(">BHI")
_FRAME_BYTES: Final = _FRAME.size
_END: Final = bytes([spec.FRAME_END])
DELIVER: Final = struct.pack(">I", spec.Basic.Deliver.INDEX)
"""What a `basic.deliver` frame has at METHOD_AT_BYTES. A frame of another kind may have it there by chance."""
ACK: Final = struct.pack(">I", spec.Basic.Ack.INDEX)
"""The same of a `basic.ack`."""
METHOD_AT_BYTES: Final = _FRAME_BYTES
"""Where, from its beginning, a method frame says which method it is."""
METHOD_BYTES: Final = len(DELIVER)
"""In so many bytes."""
_ACK_FRAME: Final = struct.Struct(">BHIIQBB")
"""A whole `basic.ack` frame: frame type, channel, size, method, delivery tag, bits, end."""
_ACK_FRAME_BYTES: Final = _ACK_FRAME.size
_ACK_PAYLOAD_BYTES: Final = _ACK_FRAME_BYTES - _FRAME_BYTES - len(_END)
_ACK_FIXED: Final = (spec.FRAME_METHOD, _ACK_PAYLOAD_BYTES, spec.Basic.Ack.INDEX, spec.FRAME_END)
_PUBLISH: Final = struct.Struct(">BHIIHB")
"""A `basic.publish` frame up to the exchange's name: frame type, channel, size, method, a reserved field, length."""
_PUBLISH_FIXED_BYTES: Final = 4 + 2 + 1 + 1 + 1
"""The payload of a `basic.publish` without its two names: method, reserved field, two lengths, bits."""
_PUBLISH_TAILS: Final = (b"\0" + _END, b"\1" + _END)
"""The end of a `basic.publish` frame: not mandatory, mandatory."""
CACHED_METHODS: Final = 4_096
"""How many encoded `basic.publish` methods are kept. Most publishes go to a few keys, such as gateways' queues."""
MAX_NAME_BYTES: Final = 255
"""How long the name of an exchange, or a routing key, may be in UTF-8. AMQP counts it in one byte."""
_DELIVER_TAIL: Final = struct.Struct(">QBB")
_CONTENT: Final = struct.Struct(">BHIHHQ")
"""A content header frame up to the property flags: frame type, channel, size, class, weight, body size."""
_CONTENT_BYTES: Final = _CONTENT.size
_CONTENT_PAYLOAD_BYTES: Final = _CONTENT_BYTES - _FRAME_BYTES
_CLASS: Final = spec.Basic.INDEX
_FLOATS: Final = {ord("f"): struct.Struct(">f"), ord("d"): struct.Struct(">d")}
_NUMBER: Final = struct.Struct(">q")
_MARK: Final = 0x5EC0_4E57_1A6B_0B5E
"""A placeholder for the number. It is so large that pika encodes it in eight bytes."""
FRAME_OVERHEAD_BYTES: Final = _FRAME_BYTES + len(_END)

UNREADABLE_HEADER: Final = "pc-unreadable"
"""The only header of a delivery whose own properties cannot be read. Its value says why."""

MAX_WHOLE_BYTES: Final = 1_048_576
"""A delivery with a body up to this is scanned again after every read until it is complete. pika takes larger ones."""

INCOMPLETE: Final = -1
"""The rest of the message has not arrived yet."""
FOREIGN: Final = -2
"""Not a delivery in the usual form: leave it to pika."""


class Delivery:
    """One message from a queue. Its properties are decoded when they are first read."""

    __slots__ = (
        "_properties",
        "body",
        "consumer_tag",
        "exchange",
        "raw_properties",
        "redelivered",
        "routing_key",
        "tag",
    )

    def __init__(
        self,
        tag: int,
        exchange: str,
        routing_key: str,
        redelivered: bool,  # noqa: FBT001 - as the fields of basic.deliver follow each other
        properties: BasicProperties | bytes,
        body: bytes,
        consumer_tag: str,
    ) -> None:
        """`properties` may be encoded (flags and values). As in pika, strings that are not UTF-8 are bytes."""
        self.tag = tag
        self.exchange = exchange
        self.routing_key = routing_key
        self.redelivered = redelivered
        self.body = body
        self.consumer_tag = consumer_tag
        self.raw_properties: bytes | None
        self._properties: BasicProperties | None
        if isinstance(properties, bytes):
            self.raw_properties, self._properties = properties, None
        else:
            self.raw_properties, self._properties = None, properties

    @property
    def properties(self) -> BasicProperties:
        """The message's properties. If they cannot be read, they are one header with the reason."""
        if self._properties is None:
            self._properties = decode_properties(self.raw_properties or b"")
        return self._properties


def scan_delivery(  # noqa: PLR0911 - each way in which it is none has its own end
    data: bytes, start: int
) -> tuple[int, int, Delivery] | int:
    """Return the delivery that begins at `start`, as (where the next frame begins, channel, delivery).

    Return INCOMPLETE or FOREIGN if there is none. Raise ValueError if what looks like a delivery contradicts itself.
    `data` must have at least a frame's head at `start`.
    """
    kind, channel, size = _FRAME.unpack_from(data, start)
    payload = start + _FRAME_BYTES
    if kind != spec.FRAME_METHOD or data[payload : payload + 4] != DELIVER:
        return FOREIGN
    header = payload + size + 1
    if len(data) < header + _CONTENT_BYTES:
        return INCOMPLETE
    kind, channel_too, header_size, class_id, _, missing = _CONTENT.unpack_from(data, header)
    if kind != spec.FRAME_HEADER or channel_too != channel or class_id != _CLASS or missing > MAX_WHOLE_BYTES:
        return FOREIGN
    parts: list[tuple[int, int]] = []
    position = header + _FRAME_BYTES + header_size + 1
    while missing > 0:
        if len(data) < position + _FRAME_BYTES:
            return INCOMPLETE
        kind, channel_too, part = _FRAME.unpack_from(data, position)
        if kind != spec.FRAME_BODY or channel_too != channel:
            return FOREIGN
        first = position + _FRAME_BYTES
        parts.append((first, first + part))
        position = first + part + 1
        missing -= part
    if len(data) < position:
        return INCOMPLETE
    if missing or data[position - 1] != spec.FRAME_END or data[header - 1] != spec.FRAME_END:
        raise ValueError("a delivery whose frames do not end where they say")
    tag_end = payload + 5 + data[payload + 4]
    delivery_tag, redelivered, exchange_bytes = _DELIVER_TAIL.unpack_from(data, tag_end)
    key = tag_end + _DELIVER_TAIL.size + exchange_bytes
    try:
        tag, exchange = data[payload + 5 : tag_end].decode(), data[key - exchange_bytes : key].decode()
        routing_key = data[key + 1 : header - 1].decode()
    except UnicodeDecodeError:
        return FOREIGN
    properties = data[header + _CONTENT_BYTES : header + _FRAME_BYTES + header_size]
    body = b"".join([data[first:end] for first, end in parts])
    return position, channel, Delivery(delivery_tag, exchange, routing_key, redelivered & 1 == 1, properties, body, tag)


def scan_ack(data: bytes, start: int) -> tuple[int, int, int, bool] | None:
    """Return the `basic.ack` that begins at `start`, as (where the next frame begins, channel, number, multiple).

    Return None if there is none, or not all of it. Such data is for pika.
    """
    after = start + _ACK_FRAME_BYTES
    if len(data) < after:
        return None
    kind, channel, size, method, number, bits, end = _ACK_FRAME.unpack_from(data, start)
    if (kind, size, method, end) != _ACK_FIXED:
        return None
    return after, channel, number, bits & 1 == 1


def encode_ack(channel: int, number: int, *, multiple: bool) -> bytes:
    """Return a `basic.ack` frame. Raise struct.error for a number that does not fit into 64 bits."""
    return _ACK_FRAME.pack(
        spec.FRAME_METHOD, channel, _ACK_PAYLOAD_BYTES, spec.Basic.Ack.INDEX, number, multiple, spec.FRAME_END
    )


def encode_properties(properties: BasicProperties) -> bytes:
    """Return properties as a content header has them: flags and values. Raise what pika's encoder raises."""
    return b"".join(properties.encode())


def decode_properties(data: bytes) -> BasicProperties:
    """Return the properties. If pika cannot read them, return one header that says so.

    RabbitMQ stores properties on which pika fails: a timestamp past the year 9999, a float that is not a number, tables
    nested a thousand deep.
    """
    properties = BasicProperties()
    try:
        properties.decode(data)
        if properties.headers:
            properties.headers = _decode_table(data, _find_table(data))
    except Exception as error:  # pika raises almost anything
        return BasicProperties(headers={UNREADABLE_HEADER: f"{type(error).__name__}: {error}"})
    return properties


def _find_table(data: bytes) -> int:
    """Return where the headers begin. Only two short strings may come before them."""
    flags = int.from_bytes(data[:2])
    position = 2
    for flag in (BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_CONTENT_ENCODING):
        if flags & flag:
            position += 1 + data[position]
    return position


def _decode_table(data: bytes, position: int) -> dict[str, Any]:
    """Return a table as pika does, but with floats in its first level, which pika would cut to integers."""
    size = int.from_bytes(data[position : position + 4])
    position += 4
    end = position + size
    table: dict[str, Any] = {}
    while position < end:
        name, position = decode_short_string(data, position)
        number = _FLOATS.get(data[position])
        if number is not None:
            (value,) = number.unpack_from(data, position + 1)
            position += 1 + number.size
        else:
            value, position = decode_value(data, position)
        table[cast(str, name)] = value
    return table


class PropertiesTemplate:
    """Properties of many mandatory publishes, encoded once. Only the number in SEQUENCE_HEADER differs."""

    __slots__ = ("_after", "_before")

    def __init__(self, properties: BasicProperties) -> None:
        """`properties` is not changed."""
        marked = copy(properties)
        marked.headers = {**(properties.headers or {}), SEQUENCE_HEADER: _MARK}
        self._before, self._after = encode_properties(marked).split(_NUMBER.pack(_MARK))

    def encode(self, number: int) -> bytes:
        """Return the properties of the publish with this number."""
        return self._before + _NUMBER.pack(number) + self._after


def encode_publish(
    channel: int, exchange: str, routing_key: str, properties: bytes, body: bytes, *, mandatory: bool, frame_max: int
) -> bytes:
    """Return all frames of one publish, joined.

    Raise pika's ShortStringTooLong for a name over 255 bytes, and ValueError if the properties need more than one
    frame.
    """
    header_size = _CONTENT_PAYLOAD_BYTES + len(properties)
    if header_size + FRAME_OVERHEAD_BYTES > frame_max:
        raise ValueError(f"properties of {len(properties)} bytes do not fit into one frame of {frame_max}")
    pieces = [
        _method(channel, exchange, routing_key, mandatory),
        _CONTENT.pack(spec.FRAME_HEADER, channel, header_size, _CLASS, 0, len(body)),
        properties,
        _END,
    ]
    max_part_bytes = frame_max - FRAME_OVERHEAD_BYTES
    if len(body) <= max_part_bytes:
        if body:
            pieces += [_FRAME.pack(spec.FRAME_BODY, channel, len(body)), body, _END]
    else:
        for first in range(0, len(body), max_part_bytes):
            part = body[first : first + max_part_bytes]
            pieces += [_FRAME.pack(spec.FRAME_BODY, channel, len(part)), part, _END]
    return b"".join(pieces)


@lru_cache(maxsize=CACHED_METHODS)
def _method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:  # noqa: FBT001 - cached
    name, key = exchange.encode(), routing_key.encode()
    if len(name) > MAX_NAME_BYTES or len(key) > MAX_NAME_BYTES:
        raise ShortStringTooLong(name if len(name) > MAX_NAME_BYTES else key)
    size = _PUBLISH_FIXED_BYTES + len(name) + len(key)
    head = _PUBLISH.pack(spec.FRAME_METHOD, channel, size, spec.Basic.Publish.INDEX, 0, len(name))
    return b"".join((head, name, bytes((len(key),)), key, _PUBLISH_TAILS[mandatory]))
