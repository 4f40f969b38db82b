"""Bearer keys: one a line, so that they can be rotated, each with what it may do. Pure."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from pushcluster_contract.errors import InvalidInput

MAX_KEYS: Final = 16

_KEY: Final = re.compile(r"[!-~]{8,255}", re.ASCII)


class Scope(StrEnum):
    """What a key may do."""

    PUBLISH = "publish"
    READ = "read"
    """Sessions and routes."""
    MANAGE = "manage"
    """Disconnect and forget."""


EVERYTHING: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """All keys that are valid, by their digests: the keys themselves are not kept."""

    _scopes: tuple[tuple[bytes, frozenset[Scope]], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, *, name: str) -> Self:
        """Read `<key>[ <scope>]…` lines of the setting `name`; raises InvalidInput, which never quotes a key."""
        lines: dict[bytes, int] = {}
        keys: list[tuple[bytes, frozenset[Scope]]] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                digest, scopes = _parse_line(line.split(), f"line {number} of {name}")
                if lines.setdefault(digest, number) != number:
                    raise InvalidInput(f"line {number} of {name} has the key of line {lines[digest]} again")
                keys.append((digest, scopes))
        if not 1 <= len(keys) <= MAX_KEYS:
            raise InvalidInput(f"{name} has {len(keys)} keys; 1 to {MAX_KEYS} are allowed, one a line")
        return cls(tuple(keys))

    def scopes_of(self, authorization: str) -> frozenset[Scope] | None:
        """Return what the header `Authorization` allows, None when it has no valid key.

        Takes as long for a wrong key as for a right one: digests are compared in constant time, all of them.
        """
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip().encode(errors="surrogateescape"))
        found: frozenset[Scope] | None = None
        for digest, scopes in self._scopes:
            if hmac.compare_digest(digest, given):
                found = scopes
        return found if scheme.lower() == "bearer" else None


def _parse_line(words: list[str], where: str) -> tuple[bytes, frozenset[Scope]]:
    key, *scopes = words
    if not _KEY.fullmatch(key):
        raise InvalidInput(f"{where} has a key that is not 8 to 255 printable ASCII characters")
    try:
        return _digest(key.encode()), frozenset(map(Scope, scopes)) or EVERYTHING
    except ValueError:
        raise InvalidInput(f"{where} has a word after a key that is none of {', '.join(Scope)}") from None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
