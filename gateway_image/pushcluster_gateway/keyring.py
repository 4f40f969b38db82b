"""The keys that tokens are checked with. No I/O; what a key is made of is the business of who made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import HS256_KEY, HS256_SECOND_KEY, parse_shared_key

MAX_KEYS: Final = 32
"""Usable keys of one set: a token that names none of them is checked against each."""
MAX_KEY_ID_CHARS: Final = 256
MAX_KEY_FILE_BYTES: Final = 65_536
"""One file of a mounted Secret, and one answer of an issuer."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    id: str | None
    """Its `kid`; None: it has no name."""
    material: object = field(repr=False)
    """The bytes of HS256, or a public key."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of one algorithm, at most MAX_KEYS."""

    keys: tuple[Key, ...]
    ignored: tuple[str, ...] = ()
    """Why entries of a set are not among them, in words."""

    def candidates(self, key_id: str | None) -> tuple[Key, ...]:
        """Return the keys that may have signed a token: those it names, else those that have no name or all."""
        if key_id is None:
            return self.keys
        return tuple(key for key in self.keys if key.id == key_id) or tuple(key for key in self.keys if key.id is None)


def parse_shared_keys(files: Mapping[str, bytes]) -> Keyring:
    """Return the HS256 keys in a mounted Secret, by file name; raises InvalidInput."""
    names = (HS256_KEY, HS256_SECOND_KEY)
    if HS256_KEY not in files:
        raise InvalidInput(f"the Secret has no key {HS256_KEY}")
    return Keyring(tuple(Key(None, parse_shared_key(files[name], name=name)) for name in names if name in files))
