"""pika's asyncio connection with two of its protected steps replaced, each for a reason that was met in practice.

Both are held by tests against a real broker, so that a new pika which changes them is noticed.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection

UNREADABLE_HEADER: Final = "pc-unreadable"
"""The only header of a delivery whose own properties could not be read; its value says why."""

_FRAME_PREFIX: Final = struct.Struct(">BHL")
_CONTENT_HEADER: Final = struct.Struct(">HHQ")


class Connection(AsyncioConnection):
    """One connection to the broker."""

    # What pika's base classes hold, for the type checker: its stubs leave the protected part out.
    bytes_sent: int
    frames_sent: int
    _adapter_emit_data: Callable[[bytes], None]
    _frame_buffer: bytes
    _transport: object | None

    _unsent: list[bytes] | None = None

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

        A publisher may send what RabbitMQ stores and pika fails on: a timestamp past the year 9999, a float that is
        not a number, tables nested a thousand deep. The error would end the connection, the message would come again,
        and no other message would ever pass it.
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
