"""Destinations: what a producer names, what a client subscribes to, and the name inside."""

import re
from dataclasses import dataclass
from typing import Final, Literal, Self, cast

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_NAME_CHARS

USER_PREFIX: Final = "/user"
_DESTINATION: Final = re.compile(rf"/(queue|topic)/([A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}})", re.ASCII)
_RULE: Final = f"/queue/<name> or /topic/<name>, where <name> is 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ -"

Kind = Literal["queue", "topic"]


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """`/queue/<name>` or `/topic/<name>`: the two share a routing key and are told apart by the gateway."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"/{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a producer's destination; raises InvalidInput (dots, stars and hashes mean something to AMQP)."""
        match = _DESTINATION.fullmatch(text)
        if match is None:
            raise InvalidInput(f"destination {text[:100]!r} is not {_RULE}")
        return cls(cast(Kind, match[1]), match[2])

    @classmethod
    def parse_subscription(cls, text: str) -> Self:
        """Read a client's destination, `/user/queue/<name>` or `/user/topic/<name>`; raises InvalidInput."""
        if not text.startswith(f"{USER_PREFIX}/"):
            raise InvalidInput(
                f"destination {text[:100]!r} does not start with {USER_PREFIX}/: only a user's own can be subscribed to"
            )
        try:
            return cls.parse(text.removeprefix(USER_PREFIX))
        except InvalidInput:
            raise InvalidInput(f"destination {text[:100]!r} is not {USER_PREFIX}{_RULE}") from None

    def as_subscribed(self) -> str:
        """Return the destination as a client writes it."""
        return f"{USER_PREFIX}{self}"
