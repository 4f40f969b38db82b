"""Which connection of the API gives way to a new one when there are too many. No I/O, no clock.

A socket costs its maker nothing, so enough that say nothing would keep every back end out. Whoever has shown a key is
trusted not to do that: its connection stays while it has a use for it, and while there are enough others to go.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Evictable(Protocol):
    """What can have a place."""

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being read, worked on or answered."""


C = TypeVar("C", bound=Evictable)


class EvictionQueue(Generic[C]):
    """All connections: those without a key by age, the others by their latest request."""

    __slots__ = ("_strangers", "_trusted")

    def __init__(self) -> None:
        self._strangers: OrderedDict[C, None] = OrderedDict()
        self._trusted: OrderedDict[C, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._trusted)

    def arrive(self, connection: C) -> None:
        """Note a new one."""
        self._strangers[connection] = None

    def trust(self, connection: C) -> None:
        """A request of it showed a key that counts; without effect on one that has left."""
        if connection in self._strangers:
            del self._strangers[connection]
            self._trusted[connection] = None
        elif connection in self._trusted:
            self._trusted.move_to_end(connection)

    def leave(self, connection: C) -> None:
        """It is gone, or given up; twice is allowed."""
        self._strangers.pop(connection, None)
        self._trusted.pop(connection, None)

    def find_one_to_give_way(self, *, strangers: int) -> C | None:
        """Return the oldest that has shown no key, if there are more than `strangers`; else the one idle longest.

        Nobody can show a key at once, so those who come need some places however many idle ones with a key there are.
        None when all work for somebody with a key.
        """
        oldest = next(iter(self._strangers), None)
        if len(self._strangers) > strangers:
            return oldest
        return next((connection for connection in self._trusted if connection.is_idle), oldest)
