"""The session entry: what `{u}:sessions` holds for one session id."""

from dataclasses import dataclass
from typing import Self

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """Which gateway process holds the session, and what it subscribed to."""

    incarnation: Incarnation
    destinations: tuple[Destination, ...] = ()

    def encode(self) -> str:
        """Return `<incarnation>[ <destination>]…`. The Lua scripts read the same form."""
        return " ".join([str(self.incarnation), *map(str, self.destinations)])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the entry that `encode` encoded. Raise InvalidInput for any other text."""
        incarnation, *destinations = text.split(" ")
        return cls(Incarnation.parse(incarnation), tuple(map(Destination.parse, destinations)))
