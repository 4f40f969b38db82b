"""Who a client is: a JWT (HS256, pinned), or in mode Trusted whatever it says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import jwt
from jwt.types import Options

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import check_user
from pushcluster_gateway.settings import AuthMode, Settings
from pushcluster_gateway.stomp.errors import Unauthenticated
from pushcluster_gateway.stomp.requests import Connect

ALGORITHM: Final = "HS256"
_SIGNATURE_ONLY: Final[Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_sub": False,
}
"""Times are checked here, by the clock that this process was given."""
CLOCK_SKEW_S: Final = 5.0
"""How far the clocks of who signs and who checks may be apart."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user who proved it."""

    user: str
    expires_s: float | None
    """Seconds since the epoch at which the connection must end; None: the token has no expiry."""


class Authenticator(Protocol):
    """Decides who a client is."""

    def identify(self, connect: Connect, handshake_token: str) -> Identity:
        """`handshake_token` came with the WebSocket handshake, or is empty. Raises Unauthenticated."""


def build_authenticator(settings: Settings, clock: Callable[[], float]) -> Authenticator:
    """Return the one that the settings ask for; `clock` gives seconds since the epoch."""
    if settings.auth_mode is AuthMode.TRUSTED:
        return Trusted()
    return JwtAuthenticator(settings.jwt_key, settings.jwt_user_claim, clock)


@dataclass(frozen=True, slots=True)
class Trusted:
    """Believes the `login` header: for development."""

    def identify(self, connect: Connect, handshake_token: str) -> Identity:  # noqa: ARG002 - the protocol's shape
        """Return the user of the `login` header."""
        if not connect.login:
            raise Unauthenticated("in auth mode Trusted, CONNECT needs the header login: it names the user")
        return Identity(_check(connect.login, "header login"), None)


@dataclass(frozen=True, slots=True)
class JwtAuthenticator:
    """Checks a JSON Web Token (RFC 7519)."""

    key: str = field(repr=False)
    user_claim: str
    clock: Callable[[], float]

    def identify(self, connect: Connect, handshake_token: str) -> Identity:
        """Return the user of the token; CONNECT's own goes before the handshake's."""
        token = connect.token or handshake_token
        if not token:
            raise Unauthenticated(
                "no token: give it as header Authorization: Bearer <token> of CONNECT or of the WebSocket handshake, "
                "or as access_token in the URL"
            )
        claims = self._decode(token)
        user = claims.get(self.user_claim)
        if not isinstance(user, str):
            raise Unauthenticated(f"the token has no text in its claim {self.user_claim!r}")
        return Identity(_check(user, f"claim {self.user_claim!r}"), self._expiry(claims))

    def _decode(self, token: str) -> dict[str, object]:
        try:
            claims: dict[str, object] = jwt.decode(token, self.key, algorithms=[ALGORITHM], options=_SIGNATURE_ONLY)
        except jwt.InvalidSignatureError:
            raise Unauthenticated("the token's signature does not fit") from None
        except jwt.InvalidAlgorithmError:
            raise Unauthenticated(f"the token is not signed with {ALGORITHM}") from None
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token cannot be read: {error}") from None
        return claims

    def _expiry(self, claims: dict[str, object]) -> float | None:
        now = self.clock()
        begins, expires = _time(claims, "nbf"), _time(claims, "exp")
        if begins is not None and begins > now + CLOCK_SKEW_S:
            raise Unauthenticated("the token is not valid yet")
        if expires is not None and expires + CLOCK_SKEW_S <= now:
            raise Unauthenticated("the token has expired")
        return expires


def _time(claims: dict[str, object], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(f"the token's claim {claim!r} is not a number")
    return float(value)


def _check(user: str, source: str) -> str:
    try:
        return check_user(user)
    except InvalidInput as error:
        raise Unauthenticated(f"{source}: {error}") from None
