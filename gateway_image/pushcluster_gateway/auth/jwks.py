"""Parses JWK sets (RFC 7517): the usable public keys of an issuer. No I/O."""

import json
from collections.abc import Mapping
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway.auth.keyring import (
    MAX_IGNORED,
    MAX_KEY_FILE_BYTES,
    MAX_KEY_ID_CHARS,
    MAX_KEYS,
    Key,
    Keyring,
)

MIN_RSA_BITS: Final = 2_048
"""RFC 7518, 3.3."""
MAX_RSA_BITS: Final = 8_192
"""The bound exists because the work for one signature grows with the square of the key size."""
_MAX_NUMBER_CHARS: Final = MAX_RSA_BITS // 6 + 2
"""The same bound for a number in base64url."""
_PUBLIC_PARTS: Final = {Algorithm.RS256: ("kty", "n", "e"), Algorithm.ES256: ("kty", "crv", "x", "y")}
_KEY_TYPES: Final = {Algorithm.RS256: "RSA", Algorithm.ES256: "EC"}


def parse_jwks(data: bytes, algorithm: Algorithm) -> Keyring:
    """Return the keys of a set that `algorithm` can use. Raise InvalidInput when `data` is no set, or has too many.

    An unusable entry is ignored, as RFC 7517, section 5 asks. A set without a usable entry gives an empty keyring: its
    issuer has withdrawn all keys.
    """
    if len(data) > MAX_KEY_FILE_BYTES:
        raise InvalidInput(f"the JWK set has more than {MAX_KEY_FILE_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidInput("it is not JSON, so it is not a JWK set (RFC 7517, 5)") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise InvalidInput("it has no list `keys`, so it is not a JWK set (RFC 7517, 5)")
    keys: list[Key] = []
    ignored: list[str] = []
    for index, entry in enumerate(entries):
        try:
            keys.append(_parse_key(entry, algorithm))
        except InvalidInput as error:
            if index - len(keys) < MAX_IGNORED:
                ignored.append(f"keys[{index}]: {error}")
    more = len(entries) - len(keys) - len(ignored)
    if more:
        ignored.append(f"and {more} more")
    if len(keys) > MAX_KEYS:
        raise InvalidInput(f"it has more than {MAX_KEYS} keys for {algorithm}")
    if not keys:
        ignored.insert(0, f"it has no key for {algorithm}")
    return Keyring(tuple(keys), tuple(ignored))


def _parse_key(entry: object, algorithm: Algorithm) -> Key:
    if not isinstance(entry, dict) or not isinstance(entry.get("kty"), str):
        raise InvalidInput("it is not a JWK")
    if entry["kty"] != _KEY_TYPES[algorithm]:
        raise InvalidInput(f"its kty is not {_KEY_TYPES[algorithm]}")
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        raise InvalidInput(f"its use or alg is not for {algorithm} signatures")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise InvalidInput("its key_ops do not include verify")
    key_id = entry.get("kid")
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= MAX_KEY_ID_CHARS):
        raise InvalidInput(f"its kid is not a text of at most {MAX_KEY_ID_CHARS} characters")
    return Key(key_id, _parse_material(entry, algorithm))


def _parse_material(entry: Mapping[str, object], algorithm: Algorithm) -> object:
    # Only the public parts are read, even if somebody published a private part by mistake.
    parts = {name: entry[name] for name in _PUBLIC_PARTS[algorithm] if name in entry}
    if not all(isinstance(part, str) and len(part) <= _MAX_NUMBER_CHARS for part in parts.values()):
        raise InvalidInput("its numbers are not base64url, or too large")
    try:
        if algorithm is Algorithm.ES256:
            if parts.get("crv") != "P-256":
                raise InvalidInput("its crv is not P-256")
            return ECAlgorithm.from_jwk(parts)
        key = RSAAlgorithm.from_jwk(parts)
    except (jwt.PyJWTError, ValueError) as error:
        raise InvalidInput(str(error)) from None
    if not isinstance(key, RSAPublicKey) or not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise InvalidInput(f"its size is not {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    return key
