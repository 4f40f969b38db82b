"""Checks that a text message is UTF-8 (RFC 6455, section 8.1), also when it arrives in pieces. No I/O."""

import codecs
from typing import Final

_UTF8: Final = codecs.getincrementaldecoder("utf-8")


class Utf8Validator:
    """Checks one piece of a message after the other."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        """Set from the first piece of a message that is not ASCII until the message ends."""

    def accepts(self, data: bytes | bytearray, *, fin: bool) -> bool:
        """Return whether the message is still UTF-8 with this piece. `fin` marks the last piece."""
        if self._decoder is None:
            if data.isascii():
                return True
            self._decoder = _UTF8()
        try:
            self._decoder.decode(data, fin)
        except UnicodeDecodeError:
            return False
        if fin:
            self._decoder = None
        return True
