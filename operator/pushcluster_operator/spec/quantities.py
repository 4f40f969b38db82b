"""Kubernetes quantities (`500m`, `64Mi`): parse them, and write them in the API server's canonical form.

The canonical form matters: the API server stores `1024Mi` as `1Gi`, so a child with `1024Mi` would look edited for
ever.
Source: `k8s.io/apimachinery/pkg/api/resource/quantity.go`, CanonicalizeBytes.
"""

import re
from fractions import Fraction
from typing import Final

from pushcluster_operator.errors import InvalidSpec

_QUANTITY: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?", re.ASCII)
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5}
_DECIMAL: Final = {"m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_BINARY_SUFFIXES: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_DECIMAL_SUFFIXES: Final = ("", "k", "M", "G", "T", "P")
_RULE: Final = "a number without sign or exponent, then at most one of m k M G T P Ki Mi Gi Ti Pi"


def parse(text: str) -> Fraction:
    """Return the quantity as an exact number. Raise InvalidSpec."""
    value, _ = _split(text)
    return value


def to_bytes(text: str) -> int:
    """Return the quantity as whole bytes, rounded up. Raise InvalidSpec."""
    return -(-parse(text) // 1)


def canonical(text: str) -> str:
    """Return the form that the API server stores. Raise InvalidSpec."""
    value, suffix = _split(text)
    if suffix in _BINARY and value >= 1024:
        return _scaled(-(-value // 1), 1024, _BINARY_SUFFIXES)
    if value.denominator == 1:
        return _scaled(int(value), 1000, _DECIMAL_SUFFIXES)
    return f"{-(-(value * 1000) // 1)}m"


def _split(text: str) -> tuple[Fraction, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InvalidSpec(f"{text[:50]!r} is not {_RULE}")
    suffix = match[2] or ""
    unit = Fraction(1024) ** _BINARY[suffix] if suffix in _BINARY else Fraction(1000) ** _DECIMAL[suffix]
    return Fraction(match[1]) * unit, suffix


def _scaled(value: int, base: int, suffixes: tuple[str, ...]) -> str:
    power = 0
    while value and value % base == 0 and power < len(suffixes) - 1:
        value //= base
        power += 1
    return f"{value}{suffixes[power]}"
