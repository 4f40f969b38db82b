"""Parses bytes from a client into frames, incrementally: any split of the bytes gives the same frames.

The parser holds at most `max_frame_bytes` of an unfinished frame, besides what one read of the socket returned. It
raises only ProtocolViolation, and is not used again afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp import escapes
from pushcluster_gateway.stomp.errors import FrameTooLarge, MalformedFrame, TooManyHeaders
from pushcluster_gateway.stomp.frames import Frame, Version

_UNESCAPED_COMMANDS: Final = frozenset({"CONNECT", "CONNECTED"})
"""Frames that negotiate the version have no escapes, because STOMP 1.0 has none (1.2, Value Encoding)."""
_MAX_LENGTH_DIGITS: Final = 12
_UNFINISHED_BLANK_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class _Head:
    """A frame whose command and headers are complete."""

    command: str
    headers: Mapping[str, str]
    body_bytes: int | None
    """The value of content-length; None: the body ends at the first NUL."""


class FrameParser:
    """Pass bytes to `receive`, then call `next_frame` until it returns None."""

    __slots__ = ("_buffer", "_head", "_limits", "_scanned", "version")

    def __init__(self, limits: Limits) -> None:
        self.version: Version | None = None
        """The negotiated version, which the owner sets. Until then, headers are read by the rules of 1.2."""
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0
        self._head: _Head | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of frames that are incomplete, or that `next_frame` has not returned yet."""
        return len(self._buffer)

    def receive(self, data: bytes | bytearray) -> None:
        """Take bytes, split in any way. Raise FrameTooLarge when too many bytes wait for `next_frame`.

        The bound allows one read of the socket, the WebSocket message that it completes, and an unfinished frame.
        """
        limits = self._limits
        max_bytes = limits.max_read_bytes + 2 * limits.max_frame_bytes + limits.max_head_bytes
        if self.held_bytes + len(data) > max_bytes:
            raise FrameTooLarge("the unhandled input", max_bytes)
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Return the next complete frame, or None when more bytes are needed. Raise ProtocolViolation."""
        if self._head is None:
            self._head = self._take_head()
            if self._head is None:
                return None
        body = self._take_body(self._head.body_bytes)
        if body is None:
            return None
        frame = Frame(self._head.command, self._head.headers, body)
        self._head = None
        return frame

    def _take_head(self) -> _Head | None:
        self._drop_heart_beats()
        buffer = self._buffer
        start = max(self._scanned - 2, 0)
        # The search ends where a head must end. Else many small frames in one buffer would take quadratic time.
        bound = self._limits.max_head_bytes + _UNFINISHED_BLANK_BYTES
        plain = buffer.find(b"\n\n", start, bound + 2)
        mixed = buffer.find(b"\n\r\n", start, plain + 1 if plain >= 0 else bound + 3)
        ends = [(at, size) for at, size in ((plain, 2), (mixed, 3)) if at >= 0]
        end, blank_bytes = min(ends, default=(len(buffer), 0))
        if buffer.find(b"\0", start, min(end, bound + 1)) >= 0:
            raise MalformedFrame("NUL before the blank line that ends the headers")
        # An incomplete blank line may still end a head of exactly the maximum size.
        if end > self._limits.max_head_bytes + (0 if ends else _UNFINISHED_BLANK_BYTES):
            raise FrameTooLarge("the command with its headers", self._limits.max_head_bytes)
        if not ends:
            self._scanned = len(buffer)
            return None
        head = self._parse_head(bytes(buffer[:end]))
        self._consume(end + blank_bytes)
        return head

    def _drop_heart_beats(self) -> None:
        buffer = self._buffer
        if buffer and buffer[0] in b"\r\n":
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]

    def _consume(self, size: int) -> None:
        del self._buffer[:size]
        self._scanned = 0

    def _parse_head(self, head: bytes) -> _Head:
        try:
            lines = head.decode().split("\n")
        except UnicodeDecodeError:
            raise MalformedFrame("command or headers are not UTF-8") from None
        if len(lines) - 1 > self._limits.max_headers:
            raise TooManyHeaders(self._limits.max_headers)
        command, *header_lines = self._without_cr(lines)
        headers: dict[str, str] = {}
        for line in header_lines:
            name, value = self._parse_header(command, line)
            headers.setdefault(name, value)
        return _Head(command, headers, self._body_bytes(headers))

    def _without_cr(self, lines: list[str]) -> list[str]:
        """Return the lines without CR at their ends. 1.2 allows no other CR; in 1.1 a CR is an octet like any other."""
        if self.version is Version.V1_1:
            return lines
        lines = [line.removesuffix("\r") for line in lines]
        if self.version is Version.V1_2 and any("\r" in line for line in lines):
            raise MalformedFrame("CR inside a line of command or headers")
        return lines

    def _parse_header(self, command: str, line: str) -> tuple[str, str]:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise MalformedFrame(f"header line {line[:100]!r} is not <name>:<value>")
        if command in _UNESCAPED_COMMANDS:
            return name, value
        version = self.version or Version.V1_2
        if version is Version.V1_0:
            # The examples in 1.0 put a space after the colon. 1.1 forbids trimming.
            return name.strip(), value.strip()
        return escapes.decode(name, version), escapes.decode(value, version)

    def _body_bytes(self, headers: Mapping[str, str]) -> int | None:
        text = headers.get("content-length")
        if text is None:
            return None
        if self.version is None or self.version is Version.V1_0:
            text = text.strip()
        if not (text.isascii() and text.isdigit()):
            raise MalformedFrame(f"content-length {text[:100]!r} is not a number")
        if len(text) > _MAX_LENGTH_DIGITS or int(text) > self._limits.max_frame_bytes:
            raise FrameTooLarge("the body", self._limits.max_frame_bytes)
        return int(text)

    def _take_body(self, size: int | None) -> bytes | None:
        buffer = self._buffer
        end = buffer.find(b"\0", self._scanned) if size is None else size
        if end < 0:
            end = self._scanned = len(buffer)
        if end > self._limits.max_frame_bytes:
            raise FrameTooLarge("the body", self._limits.max_frame_bytes)
        if end >= len(buffer):
            return None
        if buffer[end]:
            raise MalformedFrame(f"no NUL after the {size} bytes of content-length")
        body = bytes(buffer[:end])
        self._consume(end + 1)
        return body
