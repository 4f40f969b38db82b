"""Destinations: what a producer names, what a client subscribes to, and the name inside."""

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple, cast

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_NAME_CHARS

USER_PREFIX: Final = "/user"
CACHED_DESTINATIONS: Final = 4_096
"""Destinations that are remembered parsed, at most about a megabyte."""
_DESTINATION: Final = re.compile(rf"/(queue|topic)/([A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}})", re.ASCII)
_NAME_RULE: Final = f"where <name> is 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ -"
_RULE: Final = f"/queue/<name> or /topic/<name>, {_NAME_RULE}"
_SUBSCRIPTION_RULE: Final = f"{USER_PREFIX}/queue/<name> or {USER_PREFIX}/topic/<name>, {_NAME_RULE}"

Kind = Literal["queue", "topic"]


class Destination(NamedTuple):
    """`/queue/<name>` or `/topic/<name>`: the two share a routing key and are told apart by the gateway."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"/{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Read a producer's destination; raises InvalidInput (dots, stars and hashes mean something to AMQP)."""
        return _parse(text)

    @classmethod
    def parse_subscription(cls, text: str) -> "Destination":
        """Read a client's destination, `/user/queue/<name>` or `/user/topic/<name>`; raises InvalidInput."""
        if not text.startswith(f"{USER_PREFIX}/"):
            raise InvalidInput(
                f"destination {text[:100]!r} does not start with {USER_PREFIX}/: only a user's own can be subscribed to"
            )
        try:
            return cls.parse(text.removeprefix(USER_PREFIX))
        except InvalidInput:
            raise InvalidInput(f"destination {text[:100]!r} is not {_SUBSCRIPTION_RULE}") from None

    def as_subscribed(self) -> str:
        """Return the destination as a client writes it."""
        return f"{USER_PREFIX}{self}"


@lru_cache(maxsize=CACHED_DESTINATIONS)
def _parse(text: str) -> Destination:
    """Users come by the thousand, destinations by the handful: all of them share one object."""
    match = _DESTINATION.fullmatch(text)
    if match is None:
        raise InvalidInput(f"destination {text[:100]!r} is not {_RULE}")
    return Destination(cast(Kind, match[1]), match[2])
