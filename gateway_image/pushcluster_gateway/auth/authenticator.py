"""Identifies the user of a client: by a JSON Web Token (RFC 7519), or in mode Trusted by its own word. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jwt
from jwt.types import Options

from pushcluster_contract.errors import PushClusterError
from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway.auth.claims import AuthenticatedUser, ClaimRules, check_claimed_user
from pushcluster_gateway.auth.keyring import (
    MAX_KEY_ID_CHARS,
    MAX_TRIED_KEYS,
    Key,
    Keyring,
)
from pushcluster_gateway.stomp.errors import Unauthenticated
from pushcluster_gateway.stomp.requests import Connect

_SIGNATURE_ONLY: Final[Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""PyJWT verifies only the signature. The module `claims` checks the claims, by the clock of `Environment`."""


class KeyUnknown(PushClusterError):
    """No cached key verifies the token. Newer keys have to be read before it is certain that the token is invalid."""

    def __init__(self, message: str, tried: Keyring | None) -> None:
        """`tried` are the cached keys; None before any were read."""
        super().__init__(message)
        self.tried = tried


class TokenKeys(Protocol):
    """Provides the keys that verify tokens."""

    @property
    def keyring(self) -> Keyring | None:
        """The current keys: the same object until they change, or None before any were read."""

    async def refresh(self) -> bool:
        """Return once there may be newer keys: True if they were read after this call. Raise Unavailable."""


class Authenticator(Protocol):
    """Identifies the user of a CONNECT."""

    def identify(self, connect: Connect, handshake_token: str) -> AuthenticatedUser:
        """Return the user. Raise Unauthenticated or KeyUnknown.

        `handshake_token` came with the WebSocket handshake, or is empty.
        """

    async def identify_after_refresh(
        self, connect: Connect, handshake_token: str, unknown: KeyUnknown
    ) -> AuthenticatedUser:
        """After KeyUnknown, do the same with keys that were read since. Raise Unauthenticated or Unavailable."""


@dataclass(frozen=True, slots=True)
class TrustedAuthenticator:
    """Trusts the header `login`. Use it only for development."""

    def identify(self, connect: Connect, handshake_token: str) -> AuthenticatedUser:  # noqa: ARG002 - the protocol's shape
        """Return the user in the header `login`. Raise Unauthenticated without one."""
        if not connect.login:
            raise Unauthenticated("auth mode Trusted: CONNECT needs the header login, which names the user")
        return AuthenticatedUser(check_claimed_user(connect.login, "header login"), None)

    async def identify_after_refresh(
        self,
        connect: Connect,
        handshake_token: str,
        unknown: KeyUnknown,  # noqa: ARG002 - the protocol's shape
    ) -> AuthenticatedUser:
        """Return the same as `identify`: mode Trusted has no keys."""
        return self.identify(connect, handshake_token)


@dataclass(frozen=True, slots=True)
class JwtAuthenticator:
    """Verifies tokens with one configured algorithm. A token with another `alg` is refused (RFC 8725)."""

    algorithm: Algorithm
    rules: ClaimRules
    keys: TokenKeys
    clock: Callable[[], float]
    """Seconds since the epoch."""

    async def identify_after_refresh(
        self, connect: Connect, handshake_token: str, unknown: KeyUnknown
    ) -> AuthenticatedUser:
        """See Authenticator. A token is refused only with keys that were read after the token came."""
        read_since = False
        while True:
            if self.keys.keyring is not unknown.tried:
                try:
                    return self.identify(connect, handshake_token)
                except KeyUnknown as error:
                    unknown = error
            if read_since:
                raise Unauthenticated(str(unknown))
            read_since = await self.keys.refresh()

    def identify(self, connect: Connect, handshake_token: str) -> AuthenticatedUser:
        """Return the user of the token. A token in CONNECT takes precedence over that of the handshake."""
        token = connect.token or handshake_token
        if not token:
            raise Unauthenticated(
                "no token: send the header Authorization: Bearer <token> in CONNECT or in the WebSocket handshake; "
                "only a client that cannot set headers should use access_token in the URL, with a short-lived token"
            )
        key_id = self._read_key_id(token)
        keyring = self.keys.keyring
        if keyring is None:
            raise KeyUnknown("the gateway has not read any keys yet that verify tokens", None)
        candidates = keyring.candidates(key_id)
        if len(candidates) > MAX_TRIED_KEYS:
            raise Unauthenticated(
                f"the issuer has {len(candidates)} keys that may have signed the token, and the gateway tries at most "
                f"{MAX_TRIED_KEYS}: the issuer must give each key its own name (kid)"
            )
        for key in candidates:
            claims = self._decode(token, key)
            if claims is not None:
                return self.rules.identify(claims, self.clock())
        if not candidates and key_id is None and keyring.keys:
            raise Unauthenticated(
                f"the token names no key (kid), and the issuer has more than the {MAX_TRIED_KEYS} keys that are tried"
            )
        if not candidates:
            raise KeyUnknown(f"the token's key {str(key_id)[:100]!r} is not among those of the issuer", keyring)
        # Also when a key has the token's kid: the issuer may have replaced the key under that name.
        raise KeyUnknown("no key verifies the token's signature", keyring)

    def _read_key_id(self, token: str) -> str | None:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token cannot be read: {error}") from None
        if header.get("alg") != self.algorithm:
            raise Unauthenticated(f"the token is not signed with {self.algorithm}")
        key_id = header.get("kid")
        if key_id is not None and len(key_id) > MAX_KEY_ID_CHARS:
            raise Unauthenticated(f"the token's kid has more than {MAX_KEY_ID_CHARS} characters")
        return key_id

    def _decode(self, token: str, key: Key) -> Mapping[str, object] | None:
        """Return the claims, or None when the key does not verify the token. Raise Unauthenticated."""
        material: Any = key.material
        try:
            return jwt.decode(token, material, algorithms=[self.algorithm.value], options=_SIGNATURE_ONLY)
        except jwt.InvalidSignatureError:
            return None
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token cannot be read: {error}") from None
