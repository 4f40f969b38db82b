"""The keys that tokens are checked with. No I/O; what a key is made of is the business of who made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import HS256_KEY, HS256_SECOND_KEY, parse_shared_key

MAX_KEYS: Final = 32
"""Usable keys of one set."""
MAX_TRIED_KEYS: Final = 4
"""Keys that one token is checked against, which bounds what a stranger's may cost: past it, it must name its own."""
MAX_IGNORED: Final = 16
"""Entries of one set of which it is kept why they are no keys; the others are counted."""
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
    """Keys of one algorithm, at most MAX_KEYS. Without any, all were withdrawn: every token is refused."""

    keys: tuple[Key, ...]
    ignored: tuple[str, ...] = ()
    """Why entries of a set are not among them, in words: of MAX_IGNORED entries, then how many more there are."""

    def candidates(self, key_id: str | None) -> tuple[Key, ...]:
        """Return the keys that may have signed a token: those it names, else those that have no name.

        A token without a name may be of any key, where there are few of them. There may be more than MAX_TRIED_KEYS.
        """
        if key_id is None and len(self.keys) <= MAX_TRIED_KEYS:
            return self.keys
        named = tuple(key for key in self.keys if key.id == key_id)
        return named or tuple(key for key in self.keys if key.id is None)


def parse_shared_keys(files: Mapping[str, bytes]) -> Keyring:
    """Return the HS256 keys in a mounted Secret, by file name; without a usable first one there are none.

    A key that is not there any more, or was replaced by one that is none, has been withdrawn.
    """
    if HS256_KEY not in files:
        return Keyring((), (f"the Secret, or its key {HS256_KEY}, is not there",))
    try:
        keys = [Key(None, parse_shared_key(files[HS256_KEY], name=HS256_KEY))]
    except InvalidInput as error:
        return Keyring((), (str(error),))
    ignored: list[str] = []
    if HS256_SECOND_KEY in files:
        try:
            keys.append(Key(None, parse_shared_key(files[HS256_SECOND_KEY], name=HS256_SECOND_KEY)))
        except InvalidInput as error:
            ignored.append(str(error))
    return Keyring(tuple(keys), tuple(ignored))
