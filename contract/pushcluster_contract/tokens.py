"""Tokens and the keys that check them: what the author, the operator and the gateways agree on."""

from enum import StrEnum
from typing import Final


class Algorithm(StrEnum):
    """`spec.gateway.auth.algorithm`: the only one that a token may be signed with (RFC 7518, 3.1)."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"

    @property
    def has_public_keys(self) -> bool:
        """Whether what checks a token cannot also make one."""
        return self is not Algorithm.HS256


KEYS_DIRECTORY: Final = "/etc/pushcluster/auth"
"""Where a gateway pod finds these files; they change under it when a Secret does."""
HS256_KEY: Final = "hs256.key"
"""Key of a Secret, and file: the key that signs tokens."""
HS256_SECOND_KEY: Final = "hs256.second.key"
"""The same for one that is accepted as well: the next one, or the former one while its tokens last."""
JWKS_FILE: Final = "jwks.json"
"""File: a JWK set (RFC 7517, 5)."""
CA_FILE: Final = "ca.crt"
"""File: the certificate authorities (PEM) that vouch for the issuer, instead of the public ones."""

MIN_HS256_BYTES: Final = 32
"""RFC 7518, 3.2: an HS256 key has at least the size of the hash."""
JWKS_REFRESH_S: Final = 300
"""How often an issuer is asked for its keys, unless the author says otherwise."""
