"""Who a client is: the user of a JSON Web Token (RFC 7519), or in mode Trusted whatever it says. No I/O."""

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
"""Claims are checked in `claims`, by the clock that this process was given."""


class KeyUnknown(PushClusterError):
    """No key that is here fits: newer ones may have to be read before it is certain that the token is none of ours."""

    def __init__(self, message: str, tried: Keyring | None) -> None:
        """`tried` are the keys that were here."""
        super().__init__(message)
        self.tried = tried


class TokenKeys(Protocol):
    """What keeps the keys of tokens."""

    @property
    def keyring(self) -> Keyring | None:
        """The keys as they are now, the same object until they change; None before any were read."""

    async def refresh(self) -> bool:
        """Return once there may be newer ones; True when they were read after this call. Raises Unavailable."""


class Authenticator(Protocol):
    """Decides who a client is."""

    def identify(self, connect: Connect, handshake_token: str) -> AuthenticatedUser:
        """`handshake_token` came with the WebSocket handshake, or is empty. Raises Unauthenticated or KeyUnknown."""

    async def identify_after_refresh(
        self, connect: Connect, handshake_token: str, unknown: KeyUnknown
    ) -> AuthenticatedUser:
        """After KeyUnknown: the same with keys that were read since. Raises Unauthenticated or Unavailable."""


@dataclass(frozen=True, slots=True)
class TrustedAuthenticator:
    """Believes the `login` header: for development."""

    def identify(self, connect: Connect, handshake_token: str) -> AuthenticatedUser:  # noqa: ARG002 - the protocol's shape
        """Return the user of the `login` header."""
        if not connect.login:
            raise Unauthenticated("in auth mode Trusted, CONNECT needs the header login: it names the user")
        return AuthenticatedUser(check_claimed_user(connect.login, "header login"), None)

    async def identify_after_refresh(
        self,
        connect: Connect,
        handshake_token: str,
        unknown: KeyUnknown,  # noqa: ARG002 - the protocol's shape
    ) -> AuthenticatedUser:
        """There are no keys: see `identify`."""
        return self.identify(connect, handshake_token)


@dataclass(frozen=True, slots=True)
class JwtAuthenticator:
    """Checks tokens. The algorithm is ours to say: what the token says of it is compared, never followed (RFC 8725)."""

    algorithm: Algorithm
    rules: ClaimRules
    keys: TokenKeys
    clock: Callable[[], float]
    """Seconds since the epoch."""

    async def identify_after_refresh(
        self, connect: Connect, handshake_token: str, unknown: KeyUnknown
    ) -> AuthenticatedUser:
        """See Authenticator: the issuer has the last word, and it must have been asked after the token came."""
        is_last_word = False
        while True:
            if self.keys.keyring is not unknown.tried:
                try:
                    return self.identify(connect, handshake_token)
                except KeyUnknown as error:
                    unknown = error
            if is_last_word:
                raise Unauthenticated(str(unknown))
            is_last_word = await self.keys.refresh()

    def identify(self, connect: Connect, handshake_token: str) -> AuthenticatedUser:
        """Return the user of the token; CONNECT's own goes before the handshake's."""
        token = connect.token or handshake_token
        if not token:
            raise Unauthenticated(
                "no token: give it as header Authorization: Bearer <token> of CONNECT or of the WebSocket handshake, "
                "or, where nobody logs URLs, as access_token in the URL"
            )
        key_id = self._read_key_id(token)
        keyring = self.keys.keyring
        if keyring is None:
            raise KeyUnknown("there are no keys yet that tokens could be checked with", None)
        candidates = keyring.candidates(key_id)
        if len(candidates) > MAX_TRIED_KEYS:
            raise Unauthenticated(
                f"the issuer has {len(candidates)} keys that may have signed the token, and at most {MAX_TRIED_KEYS} "
                "are tried: it must give its keys names of their own (kid)"
            )
        for key in candidates:
            claims = self._decode(token, key)
            if claims is not None:
                return self.rules.identify(claims, self.clock())
        if not candidates and key_id is None and keyring.keys:
            raise Unauthenticated(
                f"the token names no key (kid), and the issuer has more than {MAX_TRIED_KEYS}, which are not all tried"
            )
        if not candidates:
            raise KeyUnknown(f"the token's key {str(key_id)[:100]!r} is not among those of the issuer", keyring)
        # Also where a key has the token's kid: an issuer may have exchanged what stands under that name.
        raise KeyUnknown("the token's signature does not fit", keyring)

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
        """Return the claims, or None when another key has signed the token."""
        material: Any = key.material
        try:
            return jwt.decode(token, material, algorithms=[self.algorithm.value], options=_SIGNATURE_ONLY)
        except jwt.InvalidSignatureError:
            return None
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token cannot be read: {error}") from None
