"""The rules for the claims of a token whose signature is verified (RFC 7519, 4.1). No I/O, no clock."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import check_user
from pushcluster_gateway.stomp.errors import Unauthenticated

CLOCK_SKEW_S: Final = 5.0
"""How far the issuer's clock may be ahead of ours. A token that becomes valid within this time is valid."""
MAX_RETRY_AFTER_S: Final = 86_400
"""The longest wait that a client is told until its token becomes valid. It asks again then."""
MAX_TIME_S: Final = 253_402_300_799
"""The last second of the year 9999."""


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """A user whose identity is verified."""

    user: str
    expires_s: float | None
    """When the connection must end, in seconds since the epoch; None: the token does not expire."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claims of a token must satisfy."""

    user_claim: str
    issuer: str = ""
    """The required `iss`; empty: any."""
    audiences: frozenset[str] = frozenset()
    """`aud` must name one of these; empty: `aud` is not checked."""
    require_expiry: bool = True
    """Whether a token without `exp` is refused, because it would be valid for ever."""

    def identify(self, claims: Mapping[str, object], now: float) -> AuthenticatedUser:
        """Return the user of the token. Raise Unauthenticated. `now` is in seconds since the epoch."""
        if self.issuer and claims.get("iss") != self.issuer:
            raise Unauthenticated("the token's claim 'iss' is not the issuer that this gateway trusts")
        if self.audiences and self.audiences.isdisjoint(_audiences(claims)):
            raise Unauthenticated("the token's claim 'aud' does not name this service")
        begins, expires = _time(claims, "nbf"), _time(claims, "exp")
        if begins is not None and begins > now + CLOCK_SKEW_S:
            wait_s = begins - CLOCK_SKEW_S - now
            raise Unauthenticated(
                f"the token is not valid yet: it becomes valid in {math.ceil(wait_s)} s",
                retry_after_ms=math.ceil(min(wait_s, MAX_RETRY_AFTER_S) * 1_000),
            )
        if expires is None and self.require_expiry:
            raise Unauthenticated("the token has no claim 'exp': this gateway accepts only tokens that expire")
        if expires is not None and expires <= now:
            raise Unauthenticated("the token has expired")
        return AuthenticatedUser(self._user(claims), expires)

    def _user(self, claims: Mapping[str, object]) -> str:
        user = claims.get(self.user_claim)
        if not isinstance(user, str):
            raise Unauthenticated(f"the token has no text in its claim {self.user_claim!r}")
        return check_claimed_user(user, f"claim {self.user_claim!r}")


def check_claimed_user(user: str, source: str) -> str:
    """Return the user id if it is valid. Raise Unauthenticated, which names `source`."""
    try:
        return check_user(user)
    except InvalidInput as error:
        raise Unauthenticated(f"{source}: {error}") from None


def _audiences(claims: Mapping[str, object]) -> list[str]:
    """Return the audiences in `aud`, which is a text or a list of texts (RFC 7519, 4.1.3)."""
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    return [each for each in listed if isinstance(each, str)]


def _time(claims: Mapping[str, object], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    # Python's JSON parser accepts NaN, which would be neither past nor future.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_TIME_S <= value <= MAX_TIME_S:
        raise Unauthenticated(f"the token's claim {claim!r} is not a number of seconds since 1970")
    return float(value)
