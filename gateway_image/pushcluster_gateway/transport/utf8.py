"""Whether what a client calls text is UTF-8 (RFC 6455, section 8.1), also when it comes in pieces. No I/O."""

import codecs
from typing import Final

_UTF8: Final = codecs.getincrementaldecoder("utf-8")


class Utf8Validator:
    """Looks at the pieces of one message after the other."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        """Only while a message is incomplete, or was not ASCII."""

    def accepts(self, data: bytes | bytearray, *, fin: bool) -> bool:
        """Tell whether a message may have this piece next; `fin`: it is the last one."""
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
