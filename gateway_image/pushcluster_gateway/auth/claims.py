"""What a token must say besides having a signature that fits (RFC 7519, 4.1). No I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import check_user
from pushcluster_gateway.stomp.errors import Unauthenticated

CLOCK_SKEW_S: Final = 5.0
"""How far the clock of who signs may be ahead of ours: a token that is valid in so little time is valid."""
MAX_TIME_S: Final = 253_402_300_799
"""The last second of the year 9999."""


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """A user who proved it."""

    user: str
    expires_s: float | None
    """Seconds since the epoch at which the connection must end; None: the token has no expiry."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What is asked of a token's claims."""

    user_claim: str
    issuer: str = ""
    """What `iss` must be; empty: anything."""
    audiences: frozenset[str] = frozenset()
    """One of which `aud` must name; empty: `aud` is not looked at."""
    require_expiry: bool = True
    """Whether a token without `exp`, which would prove its user for ever, is none."""

    def identify(self, claims: Mapping[str, object], now: float) -> AuthenticatedUser:
        """Return who the token's user is at `now`, seconds since the epoch; raises Unauthenticated."""
        if self.issuer and claims.get("iss") != self.issuer:
            raise Unauthenticated("the token's claim 'iss' is not the issuer that this gateway trusts")
        if self.audiences and self.audiences.isdisjoint(_audiences(claims)):
            raise Unauthenticated("the token's claim 'aud' does not name this service")
        begins, expires = _time(claims, "nbf"), _time(claims, "exp")
        if begins is not None and begins > now + CLOCK_SKEW_S:
            raise Unauthenticated("the token is not valid yet")
        if expires is None and self.require_expiry:
            raise Unauthenticated("the token has no claim 'exp': one that never ends is not accepted here")
        if expires is not None and expires <= now:
            raise Unauthenticated("the token has expired")
        return AuthenticatedUser(self._user(claims), expires)

    def _user(self, claims: Mapping[str, object]) -> str:
        user = claims.get(self.user_claim)
        if not isinstance(user, str):
            raise Unauthenticated(f"the token has no text in its claim {self.user_claim!r}")
        return check_claimed_user(user, f"claim {self.user_claim!r}")


def check_claimed_user(user: str, source: str) -> str:
    """Return a user id, or raise Unauthenticated that names where it came from."""
    try:
        return check_user(user)
    except InvalidInput as error:
        raise Unauthenticated(f"{source}: {error}") from None


def _audiences(claims: Mapping[str, object]) -> list[str]:
    """RFC 7519, 4.1.3: a text, or a list of texts."""
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    return [each for each in listed if isinstance(each, str)]


def _time(claims: Mapping[str, object], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    # JSON as Python reads it has NaN, which would be neither past nor future.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_TIME_S <= value <= MAX_TIME_S:
        raise Unauthenticated(f"the token's claim {claim!r} is not a number of seconds since 1970")
    return float(value)
