"""pika's asyncio connection, with three of its protected methods replaced. Each docstring says why.

In addition, `streams.py` replaces pika's transport, and `channel.py` replaces `basic_cancel`. Tests run all
replacements against a real broker, so that they notice a new pika that changes these methods.
"""

import struct
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Any, Final

from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.connection import Parameters
from pika.exceptions import AMQPConnectionError

from pushcluster_runtime.amqp.frames import (
    ACK,
    DELIVER,
    FRAME_OVERHEAD_BYTES,
    INCOMPLETE,
    METHOD_AT_BYTES,
    METHOD_BYTES,
    UNREADABLE_HEADER,
    Delivery,
    scan_ack,
    scan_delivery,
)
from pushcluster_runtime.amqp.streams import LoopServices

_FRAME_PREFIX: Final = struct.Struct(">BHL")
_CONTENT_HEADER: Final = struct.Struct(">HHQ")
_PROTOCOL_HEADER: Final = b"AMQP"
_PROTOCOL_HEADER_BYTES: Final = 8
_FOREIGN: Final = 0

OnConfirm = Callable[[int, bool], None]
"""Takes the number of a publish, and whether all up to it are meant."""


class PikaConnection(AsyncioConnection):
    """One connection to the broker."""

    # Attributes of pika's base classes, for the type checker: pika's stubs leave out what is protected.
    bytes_received: int
    bytes_sent: int
    frames_sent: int
    _adapter_emit_data: Callable[[bytes], None]
    _body_max_length: int
    _frame_buffer: bytes
    _process_frame: Callable[[object], None]
    _terminate_stream: Callable[[Exception], None]
    _transport: Any

    _unsent: list[bytes] | None = None

    def __init__(self, parameters: Parameters, *, loop: AbstractEventLoop, **callbacks: Any) -> None:
        """`callbacks` are those of pika's connection."""
        self.consumers: dict[tuple[int, str], Callable[[Delivery], None]] = {}
        """By channel and consumer tag: who gets complete deliveries directly, without pika."""
        self.confirms: dict[int, OnConfirm] = {}
        """By channel: who gets the broker's acknowledgements directly, without pika."""
        super().__init__(parameters, custom_ioloop=LoopServices(loop), **callbacks)

    @property
    def frame_max(self) -> int:
        """The largest frame, in bytes, as negotiated with the broker."""
        return self._body_max_length + FRAME_OVERHEAD_BYTES

    def send(self, frames: bytes) -> None:
        """Send encoded frames, after everything that was sent before."""
        self._output_marshaled_frames((frames,))

    def abort(self, reason: str) -> None:
        """Cut the connection now. A broker that does not answer would not answer a close either."""
        if self._transport is not None and not self.is_closed:
            self._terminate_stream(AMQPConnectionError(reason))

    def _on_data_available(self, data_in: bytes) -> None:
        """Pass complete deliveries to their consumers, acknowledgements to their channels, and the rest to pika.

        pika would copy the buffer after each frame, make objects for each of a message's three frames, and look through
        its tables of callbacks for each of them.
        """
        data = self._frame_buffer + data_in if self._frame_buffer else data_in
        self.bytes_received += len(data_in)
        position, end = 0, len(data)
        while end - position >= _PROTOCOL_HEADER_BYTES:
            after = self._take_usual(data, position)
            if after == INCOMPLETE:
                break
            if after == _FOREIGN:
                after = _find_end(data, position)
                if after > end:
                    break
                self._frame_buffer = data[position:after]
                _, value = self._read_frame()
                self._process_frame(value)
            position = after
        self._frame_buffer = data[position:]

    def _take_usual(self, data: bytes, position: int) -> int:
        """Take what begins at `position`, and return where it ends; _FOREIGN or INCOMPLETE if it is not taken."""
        method = data[position + METHOD_AT_BYTES : position + METHOD_AT_BYTES + METHOD_BYTES]
        if method == DELIVER:
            found = scan_delivery(data, position)
            if not isinstance(found, tuple):
                return INCOMPLETE if found == INCOMPLETE else _FOREIGN
            after, channel, delivery = found
            consumer = self.consumers.get((channel, delivery.consumer_tag))
            if consumer is None:
                return _FOREIGN
            consumer(delivery)
            return after
        if method == ACK and (acknowledged := scan_ack(data, position)) is not None:
            after, channel, number, multiple = acknowledged
            confirm = self.confirms.get(channel)
            if confirm is None:
                return _FOREIGN
            confirm(number, multiple)
            return after
        return _FOREIGN

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        """Join all frames of one tick of the event loop into one write.

        pika makes one system call for each frame, so three for each publish. They cost more than the rest of a publish.
        """
        if self._unsent is None:
            self._unsent = []
        if not self._unsent:
            self.ioloop.call_soon(self._send_joined)
        self._unsent += marshaled_frames
        self.frames_sent += len(marshaled_frames)

    def _send_joined(self) -> None:
        joined, self._unsent = b"".join(self._unsent or ()), None
        if self._transport is not None:  # else the connection was lost meanwhile, and everybody who waits was told
            self.bytes_sent += len(joined)
            self._adapter_emit_data(joined)

    def _read_frame(self) -> tuple[int, frame.Frame | frame.ProtocolHeader | None]:
        """Read a frame. Properties that pika cannot read become one header that says so.

        Otherwise the error would end the connection, the message would come again, and block all others for ever.
        """
        try:
            return frame.decode_frame(self._frame_buffer)
        except Exception as error:
            kind, channel_number, size = _FRAME_PREFIX.unpack_from(self._frame_buffer)
            if kind != spec.FRAME_HEADER:
                raise
            _, _, body_size = _CONTENT_HEADER.unpack_from(self._frame_buffer, _FRAME_PREFIX.size)
            properties = spec.BasicProperties(headers={UNREADABLE_HEADER: f"{type(error).__name__}: {error}"})
            return (
                _FRAME_PREFIX.size + size + spec.FRAME_END_SIZE,
                frame.Header(channel_number, body_size, properties),
            )


def _find_end(data: bytes, position: int) -> int:
    """Return where the frame at `position` ends. That may be beyond the data."""
    if data.startswith(_PROTOCOL_HEADER, position):
        return position + _PROTOCOL_HEADER_BYTES
    _, _, size = _FRAME_PREFIX.unpack_from(data, position)
    return int(position + _FRAME_PREFIX.size + size + spec.FRAME_END_SIZE)
