"""The session entry: what `{u}:sessions` holds for one session id."""

from collections import Counter
from dataclasses import dataclass
from typing import Self

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """Which gateway process holds the session, and what it subscribed to."""

    incarnation: Incarnation
    destinations: tuple[Destination, ...] = ()
    without_queue: frozenset[Destination] = frozenset()
    """Those of `destinations` for which the session has no queue of its own, so that copies go to its gateway's queue.

    This is a hint that saves work. A gateway's queue reaches every session, and what no queue takes goes there.
    """

    def encode(self) -> str:
        """Return `<incarnation>[ <destination>]…`. The Lua scripts read the same form.

        A destination without a queue is written twice. Programs of version 0.2 read such an entry too: they try the
        session's queue first.
        """
        words = [str(self.incarnation)]
        for destination in self.destinations:
            words += [str(destination)] * (2 if destination in self.without_queue else 1)
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the entry that `encode` encoded. Raise InvalidInput for any other text."""
        incarnation, *destinations = text.split(" ")
        counts = Counter(map(Destination.parse, destinations))
        without_queue = frozenset(destination for destination, count in counts.items() if count > 1)
        return cls(Incarnation.parse(incarnation), tuple(counts), without_queue)
