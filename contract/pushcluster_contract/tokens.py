"""Tokens and the keys that verify them: what the author, the operator and the gateways agree on."""

import re
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pushcluster_contract.errors import InvalidInput


class Algorithm(StrEnum):
    """`spec.gateway.auth.algorithm`: the only algorithm with which a token may be signed (RFC 7518, 3.1)."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"

    @property
    def has_public_keys(self) -> bool:
        """Whether the key that verifies a token cannot also sign one."""
        return self is not Algorithm.HS256


KEYS_DIRECTORY: Final = "/etc/pushcluster/auth"
"""Where a gateway pod finds these files. They change while it runs when the Secret changes."""
HS256_KEY: Final = "hs256.key"
"""Key in a Secret, and file name: the shared key that signs tokens."""
HS256_SECOND_KEY: Final = "hs256.second.key"
"""The same for a second key that is also accepted: the next one, or the former one until its tokens have expired."""
JWKS_FILE: Final = "jwks.json"
"""File name: a JWK set (RFC 7517, 5)."""
CA_FILE: Final = "ca.crt"
"""File name: the certificate authorities (PEM) to trust for the issuer, instead of the public ones."""

MIN_HS256_BYTES: Final = 32
"""RFC 7518, 3.2: an HS256 key is at least as long as the hash."""
JWKS_REFRESH_S: Final = 300
"""Default interval between two requests for an issuer's keys."""

_PUBLIC_OR_PRIVATE: Final = re.compile(rb"----[- ]BEGIN |\A\s*(ssh-|ecdsa-sha2-)")


def parse_shared_key(content: bytes, *, name: str) -> bytes:
    """Return the HS256 key in `content`. Raise InvalidInput, which names the key by `name` and never quotes it.

    Line ends after a text are removed, because `kubectl create secret --from-file` keeps the last one of a file. Bytes
    that are not UTF-8 text, such as those of `openssl rand`, are kept whole: a line end in them is part of the key. A
    key in PEM or SSH form belongs to another algorithm and is refused: PyJWT would refuse it with every single token.
    """
    if _PUBLIC_OR_PRIVATE.search(content):
        raise InvalidInput(
            f"{name} is a public or private key, and HS256 uses neither: choose random text, or set the algorithm "
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
    """Return the parts of an issuer's http or https address. Raise InvalidInput; its text does not name the setting."""
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0 and parts.scheme in {"http", "https"}
    except ValueError:
        is_address = False
    if not is_address:
        raise InvalidInput("must be an https:// address with a host and, if any, a port from 1 to 65535")
    return parts
