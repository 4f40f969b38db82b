"""The keys that verify tokens. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import HS256_KEY, HS256_SECOND_KEY, parse_shared_key

MAX_KEYS: Final = 32
"""Usable keys in one set."""
MAX_TRIED_KEYS: Final = 4
"""Keys that are tried for one token. It bounds the work that a stranger's token causes; issuers with more use kid."""
MAX_IGNORED: Final = 16
"""Unusable entries of one set for which the reason is kept. Further ones are only counted."""
MAX_KEY_ID_CHARS: Final = 256
MAX_KEY_FILE_BYTES: Final = 65_536
"""Maximum size of one file of a mounted Secret, and of one answer of an issuer."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key that verifies tokens."""

    id: str | None
    """The `kid`; None: the key has no name."""
    material: object = field(repr=False)
    """The bytes of an HS256 key, or a public key object."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of one algorithm, at most MAX_KEYS. Without keys, all were withdrawn and every token is refused."""

    keys: tuple[Key, ...]
    ignored: tuple[str, ...] = ()
    """Why entries were ignored, in words: for MAX_IGNORED entries, then the number of further ones."""

    def candidates(self, key_id: str | None) -> tuple[Key, ...]:
        """Return the keys that may have signed a token: those that it names, else those without a name.

        If there are only few keys, any of them may have signed a token without a key name. The result may have more
        than MAX_TRIED_KEYS keys.
        """
        if key_id is None and len(self.keys) <= MAX_TRIED_KEYS:
            return self.keys
        named = tuple(key for key in self.keys if key.id == key_id)
        return named or tuple(key for key in self.keys if key.id is None)


def parse_shared_keys(files: Mapping[str, bytes]) -> Keyring:
    """Return the HS256 keys in the files of a mounted Secret. Without a usable first key, there are none.

    A key that is missing, or was replaced by an unusable one, counts as withdrawn.
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
