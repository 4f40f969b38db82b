"""pika's asyncio connection, with three of its protected methods replaced. Each docstring says why.

In addition, `read_in_large_pieces` sets a constant of asyncio's transport, and `channel.py` replaces `basic_cancel`.
Tests run all replacements against a real broker, so that they notice a new pika that changes these methods.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPConnectionError

from pushcluster_runtime.amqp.frames import (
    FRAME_OVERHEAD_BYTES,
    INCOMPLETE,
    UNREADABLE_HEADER,
    Delivery,
    scan_delivery,
)

READ_BYTES: Final = 262_144
"""How much one read of the socket may return. pika reads 4 KiB at a time, which is one system call a dozen messages."""

_FRAME_PREFIX: Final = struct.Struct(">BHL")
_CONTENT_HEADER: Final = struct.Struct(">HHQ")
_PROTOCOL_HEADER: Final = b"AMQP"
_PROTOCOL_HEADER_BYTES: Final = 8
_FRAMES_OF_A_DELIVERY: Final = 3


class PikaConnection(AsyncioConnection):
    """One connection to the broker."""

    # Attributes of pika's base classes, for the type checker: pika's stubs leave out what is protected.
    bytes_received: int
    bytes_sent: int
    frames_received: int
    frames_sent: int
    _adapter_emit_data: Callable[[bytes], None]
    _body_max_length: int
    _frame_buffer: bytes
    _process_frame: Callable[[object], None]
    _terminate_stream: Callable[[Exception], None]
    _transport: Any

    _unsent: list[bytes] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the same arguments as pika's connection."""
        self.consumers: dict[tuple[int, str], Callable[[Delivery], None]] = {}
        """By channel and consumer tag: who gets complete deliveries directly, without pika."""
        super().__init__(*args, **kwargs)

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

    def read_in_large_pieces(self) -> None:
        """Apply READ_BYTES to the socket of an open connection."""
        self._transport._MAX_RECV_BYTES = READ_BYTES

    def _on_data_available(self, data_in: bytes) -> None:
        """Pass complete deliveries to their consumers, and every other frame to pika.

        pika would copy the buffer after each frame, and make objects and callbacks for each of a message's three
        frames.
        """
        data = self._frame_buffer + data_in if self._frame_buffer else data_in
        self.bytes_received += len(data_in)
        position, end = 0, len(data)
        while end - position >= _PROTOCOL_HEADER_BYTES:
            found = scan_delivery(data, position)
            if isinstance(found, tuple):
                after, channel, delivery = found
                consumer = self.consumers.get((channel, delivery.consumer_tag))
                if consumer is not None:
                    self.frames_received += _FRAMES_OF_A_DELIVERY
                    position = after
                    consumer(delivery)
                    continue
            elif found == INCOMPLETE:
                break
            after = _find_end(data, position)
            if after > end:
                break
            self._frame_buffer = data[position:after]
            position = after
            _, value = self._read_frame()
            self._process_frame(value)
        self._frame_buffer = data[position:]

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
