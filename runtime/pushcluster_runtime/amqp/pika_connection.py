"""pika's asyncio connection with three of its protected steps replaced, each for a reason that was met in practice.

Besides, `read_in_large_pieces` sets a constant of asyncio's transport, and amqp_channel.py replaces `basic_cancel`.
What is replaced is held by tests against a real broker, so that a new pika which changes it is noticed.
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
"""What one read of the socket may bring. pika asks for 4 KiB at a time: a system call for a dozen messages."""

_FRAME_PREFIX: Final = struct.Struct(">BHL")
_CONTENT_HEADER: Final = struct.Struct(">HHQ")
_PROTOCOL_HEADER: Final = b"AMQP"
_PROTOCOL_HEADER_BYTES: Final = 8
_FRAMES_OF_A_DELIVERY: Final = 3


class PikaConnection(AsyncioConnection):
    """One connection to the broker."""

    # What pika's base classes hold, for the type checker: its stubs leave the protected part out.
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
        """Take what pika takes."""
        self.consumers: dict[tuple[int, str], Callable[[Delivery], None]] = {}
        """By channel and consumer tag: who gets a delivery that is wholly there, past pika."""
        super().__init__(*args, **kwargs)

    @property
    def frame_max(self) -> int:
        """The largest frame that was agreed on, in bytes."""
        return self._body_max_length + FRAME_OVERHEAD_BYTES

    def send(self, frames: bytes) -> None:
        """Send encoded frames behind everything that was sent before."""
        self._output_marshaled_frames((frames,))

    def abort(self, reason: str) -> None:
        """Cut the connection now: a broker that does not answer would not answer a close either."""
        if self._transport is not None and not self.is_closed:
            self._terminate_stream(AMQPConnectionError(reason))

    def read_in_large_pieces(self) -> None:
        """Apply READ_BYTES to the socket of an open connection."""
        self._transport._MAX_RECV_BYTES = READ_BYTES

    def _on_data_available(self, data_in: bytes) -> None:
        """Hand whole deliveries to their consumers, and every other frame to pika.

        pika cuts the buffer anew behind each frame, and makes objects and callbacks of each of the three of a message.
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
        """Join all frames of one turn of the event loop into one write.

        pika makes one system call for each frame, three for each publish; they cost more than all the rest of it.
        """
        if self._unsent is None:
            self._unsent = []
        if not self._unsent:
            self.ioloop.call_soon(self._send_joined)
        self._unsent += marshaled_frames
        self.frames_sent += len(marshaled_frames)

    def _send_joined(self) -> None:
        joined, self._unsent = b"".join(self._unsent or ()), None
        if self._transport is not None:  # else the connection went meanwhile, and everybody who waits was told
            self.bytes_sent += len(joined)
            self._adapter_emit_data(joined)

    def _read_frame(self) -> tuple[int, frame.Frame | frame.ProtocolHeader | None]:
        """Read a frame; properties that pika cannot read become one header that says so.

        The error would end the connection, the message would come again, and no other message would ever pass it.
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
    """Return where the frame at `position` ends, perhaps behind the data."""
    if data.startswith(_PROTOCOL_HEADER, position):
        return position + _PROTOCOL_HEADER_BYTES
    _, _, size = _FRAME_PREFIX.unpack_from(data, position)
    return int(position + _FRAME_PREFIX.size + size + spec.FRAME_END_SIZE)
