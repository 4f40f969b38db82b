"""WebSocket data frames, as a server writes them. The serializer of websockets takes several times as long."""

from struct import Struct
from typing import Final

from websockets.frames import Opcode

_TEXT_HEAD: Final = 0x80 | Opcode.TEXT
_BINARY_HEAD: Final = 0x80 | Opcode.BINARY
_SHORT: Final = Struct("!BB")
_MEDIUM: Final = Struct("!BBH")
_LONG: Final = Struct("!BBQ")


def encode_message(data: bytes) -> bytes:
    """Return one unfragmented, unmasked frame (RFC 6455, section 5.2): text when the bytes are UTF-8, else binary.

    A browser fails the connection when a text frame is not UTF-8. Scripts can use text more easily than binary data.
    """
    return encode_parts(b"", data)


def encode_parts(text: bytes, data: bytes) -> bytes:
    """Return the same for a message in two parts. `text` is known to be UTF-8."""
    head = _TEXT_HEAD if data.isascii() or _is_utf8(data) else _BINARY_HEAD
    size = len(text) + len(data)
    if 126 <= size < 65_536:
        return _MEDIUM.pack(head, 126, size) + text + data
    if size < 126:
        return _SHORT.pack(head, size) + text + data
    return _LONG.pack(head, 127, size) + text + data


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
