"""Destinations, as producers write them and as clients subscribe to them."""

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple, cast

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_NAME_CHARS

USER_PREFIX: Final = "/user"
CACHED_DESTINATIONS: Final = 4_096
"""Parsed destinations that are cached; about a megabyte at most."""
_DESTINATION: Final = re.compile(rf"/(queue|topic)/([A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}})", re.ASCII)
_NAME_RULE: Final = f"where <name> is 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ -"
_RULE: Final = f"/queue/<name> or /topic/<name>, {_NAME_RULE}"
_SUBSCRIPTION_RULE: Final = f"{USER_PREFIX}/queue/<name> or {USER_PREFIX}/topic/<name>, {_NAME_RULE}"

Kind = Literal["queue", "topic"]


class Destination(NamedTuple):
    """`/queue/<name>` or `/topic/<name>`. Both share one routing key; the gateway distinguishes them."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"/{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Return a producer's destination. Raise InvalidInput, also for `.`, `*` and `#`, which AMQP interprets."""
        return _parse(text)

    @classmethod
    def parse_subscription(cls, text: str) -> "Destination":
        """Return the destination of `/user/queue/<name>` or `/user/topic/<name>`. Raise InvalidInput for other text."""
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
    """Cached, because thousands of users share a few destinations: one object serves all of them."""
    match = _DESTINATION.fullmatch(text)
    if match is None:
        raise InvalidInput(f"destination {text[:100]!r} is not {_RULE}")
    return Destination(cast(Kind, match[1]), match[2])
