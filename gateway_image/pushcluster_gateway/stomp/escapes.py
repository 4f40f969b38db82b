r"""Header escapes of each version: 1.0 has none, 1.1 has `\n \c \\`, 1.2 also has `\r` (1.2, Value Encoding)."""

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

# Octets that a version cannot escape would end the header line or the frame, so they are replaced. 1.0 has no escapes.
# Lenient 1.1 clients drop a CR before the LF. NUL ends a frame in every version.
_REPLACEMENTS: Final = {
    Version.V1_0: str.maketrans({"\n": " ", "\r": " ", "\0": "�"}),
    Version.V1_1: str.maketrans({"\r": " ", "\0": "�"}),
    Version.V1_2: str.maketrans({"\0": "�"}),
}
_SPECIAL: Final = re.compile(r"[\\:\r\n\0]")


def decode(text: str, version: Version) -> str:
    """Return a header's name or value without escapes. Raise MalformedFrame for an escape that the version lacks."""
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
    """Return one header line with its LF. Octets that the version cannot express are replaced."""
    if _SPECIAL.search(value) or _SPECIAL.search(name):
        name, value = (text.translate(_REPLACEMENTS[version]).translate(_ENCODED[version]) for text in (name, value))
        if version is Version.V1_0:
            name = name.replace(":", "_")
    return f"{name}:{value}\n".encode()


@lru_cache(maxsize=256)
def encode_repeated_header(name: str, value: str, version: Version) -> bytes:
    """Return the same from a cache, for headers with few different values, such as content types."""
    return encode_header(name, value, version)
