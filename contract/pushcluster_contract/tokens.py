"""Tokens and the keys that check them: what the author, the operator and the gateways agree on."""

import re
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pushcluster_contract.errors import InvalidInput


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

_PUBLIC_OR_PRIVATE: Final = re.compile(rb"----[- ]BEGIN |\A\s*(ssh-|ecdsa-sha2-)")


def parse_shared_key(content: bytes, *, name: str) -> bytes:
    """Return the HS256 key that `content` of this name is; raises InvalidInput, which never quotes it.

    Line ends behind a text do not count: `kubectl create secret --from-file` keeps a file's last one. Bytes that are no
    text in UTF-8, as `openssl rand` makes them, count to the last: a line end is there by chance. A key in PEM or SSH
    form is the issuer's for another algorithm. PyJWT would refuse it with every single token.
    """
    if _PUBLIC_OR_PRIVATE.search(content):
        raise InvalidInput(
            f"{name} is a public or private key, which HS256 does not have: choose random text, or set the algorithm "
            "to RS256 or ES256"
        )
    key = content.rstrip(b"\r\n") if _is_text(content) else content
    size = len(key) if key.strip() else 0
    if size < MIN_HS256_BYTES:
        raise InvalidInput(f"{name} has {size} bytes; HS256 needs at least {MIN_HS256_BYTES} (RFC 7518, 3.2)")
    return key


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def split_jwks_url(url: str) -> SplitResult:
    """Return the parts of an issuer's address, http or https; raises InvalidInput without the setting's name."""
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0 and parts.scheme in {"http", "https"}
    except ValueError:
        is_address = False
    if not is_address:
        raise InvalidInput("must be an https:// address with a host and, if any, a port from 1 to 65535")
    return parts
