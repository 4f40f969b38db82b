"""Which subscriptions of one client read a page of the log now, and how large it may be. No I/O, no clock.

What is read beyond the room in the client's outbox is dropped and read again. So the pages under way share that room,
and the other subscriptions wait for their turn. This exists only while something is read or waits.
"""

from typing import Generic, TypeVar

from pushcluster_gateway.session.delivery import ReadPage

S = TypeVar("S")
"""A subscription."""


class PageTurns(Generic[S]):
    """The pages under way for one client, and who waits to read one, in order."""

    __slots__ = ("_max_reads", "_reads", "_reserved_bytes", "_waiting")

    def __init__(self, max_reads: int) -> None:
        self._max_reads = max_reads
        self._reads = 0
        self._reserved_bytes = 0
        """Room for the pages under way. A page that is outdated meanwhile counts until it has come."""
        self._waiting: dict[S, ReadPage] = {}

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way and nobody waits."""
        return not self._reads and not self._waiting

    @property
    def waits_for_space(self) -> bool:
        """Whether somebody waits for space in the outbox, and not only for the end of a page under way."""
        return bool(self._waiting) and self._reads < self._max_reads

    def wait(self, subscription: S, asked: ReadPage) -> None:
        """Have the subscription wait for its turn. If it waits already, it keeps its place for the new request."""
        self._waiting[subscription] = asked

    def leave(self, subscription: S) -> None:
        """Forget a subscription that has ended. Its page under way still ends by `end`."""
        self._waiting.pop(subscription, None)

    def end(self, asked: ReadPage) -> None:
        """Note that a page from `take` has come, or will never come."""
        self._reads -= 1
        self._reserved_bytes -= asked.max_bytes

    def take(self, free_bytes: int, readers: int) -> list[tuple[S, ReadPage]]:
        """Return the pages to read now. `free_bytes` is the room in the outbox.

        `readers` is how many subscriptions the client has: so many may soon ask for a part of the room. A first page is
        read without room too, because the RECEIPT of SUBSCRIBE waits for it. It has one entry then.
        """
        taken: list[tuple[S, ReadPage]] = []
        for subscription, asked in list(self._waiting.items()):
            if self._reads >= self._max_reads:
                break
            room = free_bytes - self._reserved_bytes
            if room <= 0 and not asked.is_first:
                continue
            shares = max(1, min(self._max_reads, readers) - self._reads)
            page = asked._replace(max_bytes=max(1, min(asked.max_bytes, room // shares)))
            del self._waiting[subscription]
            self._reads += 1
            self._reserved_bytes += page.max_bytes
            taken.append((subscription, page))
        return taken
