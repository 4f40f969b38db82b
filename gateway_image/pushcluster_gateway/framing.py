"""WebSocket data frames, as a server writes them: websockets' own serializer costs several times as much a frame."""

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

    A browser fails the connection when a text frame is not UTF-8, and hands text to scripts more handily.
    """
    head = _TEXT_HEAD if data.isascii() or _is_utf8(data) else _BINARY_HEAD
    size = len(data)
    if size < 126:
        return _SHORT.pack(head, size) + data
    if size < 65_536:
        return _MEDIUM.pack(head, 126, size) + data
    return _LONG.pack(head, 127, size) + data


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
