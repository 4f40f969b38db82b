"""Bearer keys of the HTTP API: one in each line, each with its scopes. Several keys make rotation possible. No I/O."""

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
    """List sessions and routes."""
    MANAGE = "manage"
    """Disconnect sessions and forget users."""


ALL_SCOPES: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """All valid keys. Only their digests are kept, never the keys themselves."""

    _scopes: tuple[tuple[bytes, frozenset[Scope]], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, *, name: str) -> Self:
        """Return the keys in `text`, which has lines `<key>[ <scope>]…`. Raise InvalidInput, which never quotes a key.

        `name` is the setting that errors name.
        """
        lines: dict[bytes, int] = {}
        keys: list[tuple[bytes, frozenset[Scope]]] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                digest, scopes = _parse_line(line.split(), f"line {number} of {name}")
                if lines.setdefault(digest, number) != number:
                    raise InvalidInput(f"line {number} of {name} repeats the key of line {lines[digest]}")
                keys.append((digest, scopes))
        if not 1 <= len(keys) <= MAX_KEYS:
            raise InvalidInput(f"{name} has {len(keys)} keys; 1 to {MAX_KEYS} are allowed, one in each line")
        return cls(tuple(keys))

    def scopes_of(self, authorization: str) -> frozenset[Scope] | None:
        """Return the scopes that the header `Authorization` grants, or None without a valid key.

        A wrong key takes as long as a right one: every digest is compared, in constant time.
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
        return _digest(key.encode()), frozenset(map(Scope, scopes)) or ALL_SCOPES
    except ValueError:
        raise InvalidInput(f"{where} has an unknown scope after a key; allowed are {', '.join(Scope)}") from None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
