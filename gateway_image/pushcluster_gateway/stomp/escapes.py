r"""Header escapes as each version has them: 1.0 none, 1.1 `\n \c \\`, 1.2 also `\r` (1.2, Value Encoding)."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pushcluster_gateway.stomp.errors import MalformedFrame
from pushcluster_gateway.stomp.frames import Version

_DECODED: Final[Mapping[Version, Mapping[str, str]]] = {
    Version.V1_0: {},
    Version.V1_1: {r"\n": "\n", r"\c": ":", r"\\": "\\"},
    Version.V1_2: {r"\r": "\r", r"\n": "\n", r"\c": ":", r"\\": "\\"},
}
_ENCODED: Final = {
    version: str.maketrans({octet: escape for escape, octet in table.items()}) for version, table in _DECODED.items()
}
_ESCAPE: Final = re.compile(r"\\.?", re.DOTALL)

# What a version has no escape for would end the header line or the frame. 1.0 has nothing at all; a CR before the LF
# is dropped by lenient 1.1 clients too; NUL ends a frame in every version.
_UNSPEAKABLE: Final = {
    Version.V1_0: str.maketrans({"\n": " ", "\r": " ", "\0": "�"}),
    Version.V1_1: str.maketrans({"\r": " ", "\0": "�"}),
    Version.V1_2: str.maketrans({"\0": "�"}),
}
_SPECIAL: Final = re.compile(r"[\\:\r\n\0]")


def decode(text: str, version: Version) -> str:
    """Undo the escapes of a header's name or value; raises MalformedFrame for an escape that the version lacks."""
    if "\\" not in text or version is Version.V1_0:
        return text
    table = _DECODED[version]

    def replace(match: re.Match[str]) -> str:
        try:
            return table[match[0]]
        except KeyError:
            raise MalformedFrame(f"undefined escape {match[0]!r} in a header of STOMP {version}") from None

    return _ESCAPE.sub(replace, text)


def encode_header(name: str, value: str, version: Version) -> bytes:
    """Return one header line with its LF; octets that the version cannot express are replaced."""
    if _SPECIAL.search(value) or _SPECIAL.search(name):
        name, value = (text.translate(_UNSPEAKABLE[version]).translate(_ENCODED[version]) for text in (name, value))
        if version is Version.V1_0:
            name = name.replace(":", "_")
    return f"{name}:{value}\n".encode()


@lru_cache(maxsize=256)
def encode_repeated_header(name: str, value: str, version: Version) -> bytes:
    """Do the same for headers with few different values, such as content types."""
    return encode_header(name, value, version)
