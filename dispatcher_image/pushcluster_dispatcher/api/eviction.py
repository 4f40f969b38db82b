"""Which connection of the API gives way to a new one when there are too many. No I/O, no clock.

Idle unauthenticated sockets are cheap for an attacker, and enough of them would keep every back end out, so they are
evicted first. Clients that have shown a key are trusted: their connections stay while they work, and while there are
enough others to evict.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Evictable(Protocol):
    """A connection that can be evicted."""

    @property
    def is_idle(self) -> bool:
        """Whether none of its requests is being read, worked on or answered."""


C = TypeVar("C", bound=Evictable)


class EvictionQueue(Generic[C]):
    """All connections: those without a key by age, those with a key by their latest request."""

    __slots__ = ("_strangers", "_trusted")

    def __init__(self) -> None:
        self._strangers: OrderedDict[C, None] = OrderedDict()
        self._trusted: OrderedDict[C, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._trusted)

    def arrive(self, connection: C) -> None:
        """Add a new connection."""
        self._strangers[connection] = None

    def trust(self, connection: C) -> None:
        """Note that a request of the connection showed a valid key. A connection that has left stays out."""
        if connection in self._strangers:
            del self._strangers[connection]
            self._trusted[connection] = None
        elif connection in self._trusted:
            self._trusted.move_to_end(connection)

    def leave(self, connection: C) -> None:
        """Remove a connection that has ended or is evicted. To remove it twice is allowed."""
        self._strangers.pop(connection, None)
        self._trusted.pop(connection, None)

    def find_one_to_give_way(self, *, strangers: int) -> C | None:
        """Return the oldest connection without a key if there are more than `strangers` of them.

        Otherwise return the one with a key that is idle longest, or else the oldest without a key. None if all work for
        clients with a key. No client can show a key at once, so newcomers are kept a while even if many idle
        connections have one.
        """
        oldest = next(iter(self._strangers), None)
        if len(self._strangers) > strangers:
            return oldest
        return next((connection for connection in self._trusted if connection.is_idle), oldest)
