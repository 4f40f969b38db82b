"""Who a client is: the user of a JSON Web Token (RFC 7519), or in mode Trusted whatever it says. No I/O."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jwt
from jwt.types import Options

from pushcluster_contract.errors import PushClusterError
from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway.claims import ClaimRules, Identity, check_identity
from pushcluster_gateway.keyring import MAX_KEY_ID_CHARS, Key, Keyring
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


class Authenticator(Protocol):
    """Decides who a client is."""

    def identify(self, connect: Connect, handshake_token: str) -> Identity:
        """`handshake_token` came with the WebSocket handshake, or is empty. Raises Unauthenticated or KeyUnknown."""

    async def refresh(self) -> None:
        """After KeyUnknown: return once the keys are as new as they can be. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """Believes the `login` header: for development."""

    def identify(self, connect: Connect, handshake_token: str) -> Identity:  # noqa: ARG002 - the protocol's shape
        """Return the user of the `login` header."""
        if not connect.login:
            raise Unauthenticated("in auth mode Trusted, CONNECT needs the header login: it names the user")
        return Identity(check_identity(connect.login, "header login"), None)

    async def refresh(self) -> None:
        """There are no keys."""


@dataclass(frozen=True, slots=True)
class JwtAuthenticator:
    """Checks tokens. The algorithm is ours to say: what the token says of it is compared, never followed (RFC 8725)."""

    algorithm: Algorithm
    rules: ClaimRules
    keyring: Callable[[], Keyring | None]
    """Returns the keys as they are now; None before any were read."""
    refresh_keys: Callable[[], Awaitable[None]]
    """Returns once the keys are as new as they can be."""
    clock: Callable[[], float]
    """Seconds since the epoch."""

    async def refresh(self) -> None:
        """See Authenticator."""
        await self.refresh_keys()

    def identify(self, connect: Connect, handshake_token: str) -> Identity:
        """Return the user of the token; CONNECT's own goes before the handshake's."""
        token = connect.token or handshake_token
        if not token:
            raise Unauthenticated(
                "no token: give it as header Authorization: Bearer <token> of CONNECT or of the WebSocket handshake, "
                "or as access_token in the URL"
            )
        key_id = self._read_key_id(token)
        keyring = self.keyring()
        if keyring is None:
            raise KeyUnknown("there are no keys yet that tokens could be checked with")
        candidates = keyring.candidates(key_id)
        for key in candidates:
            claims = self._decode(token, key)
            if claims is not None:
                return self.rules.identify(claims, self.clock())
        if not candidates:
            raise KeyUnknown(f"the token's key {str(key_id)[:100]!r} is not among those of the issuer")
        if any(key.id is not None and key.id == key_id for key in candidates):
            raise Unauthenticated("the token's signature does not fit")
        raise KeyUnknown("the token's signature does not fit")

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
