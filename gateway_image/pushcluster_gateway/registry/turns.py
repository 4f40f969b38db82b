"""A queue that serves users in turn: one with many items delays each other user by two of them at most. No I/O."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741 - an item


class TurnQueue(Generic[I]):
    """Rounds of items, each with one item of each user at most. Items of one user keep their order.

    A round that has begun takes no more items, so whoever comes again and again cannot keep the next one from its turn.
    Memory is that of what waits, however many users there have been.
    """

    __slots__ = ("_first", "_next_round", "_now", "_rounds")

    def __init__(self) -> None:
        self._now: deque[I] = deque()
        """The round that has begun."""
        self._rounds: deque[list[tuple[str, I]]] = deque()
        """The rounds after it, with the user of each item."""
        self._first = 0
        """The number of the first of `_rounds`."""
        self._next_round: dict[str, int] = {}
        """For each user in `_rounds` the round of the next item that comes."""

    def __bool__(self) -> bool:
        return bool(self._now or self._rounds)

    def __iter__(self) -> Iterator[I]:
        yield from self._now
        for each in self._rounds:
            yield from (item for _, item in each)

    def append(self, item: I, user: str = "") -> None:
        """Add an item behind all others of its user. Items without a user are served as they come."""
        number = self._first
        if user:
            number = self._next_round.get(user, number)
            self._next_round[user] = number + 1
        if number - self._first == len(self._rounds):
            self._rounds.append([])
        self._rounds[number - self._first].append((user, item))

    def popleft(self) -> I:
        """Remove and return the item whose turn it is. Raise IndexError when there is none."""
        if not self._now:
            begun = self._rounds.popleft()
            self._first += 1
            for user, item in begun:
                self._now.append(item)
                if self._next_round.get(user) == self._first:
                    del self._next_round[user]  # that was its last one
        return self._now.popleft()

    def clear(self) -> None:
        """Remove everything."""
        self._now.clear()
        self._rounds.clear()
        self._next_round.clear()
