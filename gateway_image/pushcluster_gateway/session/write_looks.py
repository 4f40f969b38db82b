"""When to look at the sockets whose clients have not acknowledged a message yet. No I/O; the time is handed in.

A look is a system call. A client that went dark acknowledges nothing for minutes, so each look that finds nothing new
doubles the time until the next one.
"""

import heapq
from typing import Final, Generic, TypeVar

FIRST_LOOK_S: Final = 0.05
"""Until the next look at a client that has acknowledged something since the last one, and after the first look."""
MAX_LOOK_S: Final = 1.0
"""Until the next look at a client that acknowledges nothing."""
MAX_LOOKS: Final = 500
"""Looks at once: some 4 ms of system calls. The other clients come next time, those that are due longest first."""

C = TypeVar("C")
"""A client."""


def next_delay_s(delay_s: float, *, moved: bool) -> float:
    """Return how long to wait until the next look. `delay_s` is how long it was until this one; 0 at first."""
    return FIRST_LOOK_S if moved or not delay_s else min(2 * delay_s, MAX_LOOK_S)


class WriteLooks(Generic[C]):
    """Which clients to look at, and when."""

    __slots__ = ("_added", "_due", "_looks")

    def __init__(self) -> None:
        self._due: list[tuple[float, int, C]] = []
        """A heap: when to look, a number that decides between equal times, the client."""
        self._looks: dict[C, tuple[float, int]] = {}
        """For each client how long it was until the next look, and what the last one found."""
        self._added = 0

    def __len__(self) -> int:
        return len(self._looks)

    def add(self, client: C, now: float) -> None:
        """Look at this client as soon as possible, if it is a new one."""
        if client not in self._looks:
            self._looks[client] = (0.0, -1)
            self._push(client, now)

    def take_due(self, now: float) -> list[C]:
        """Return the clients to look at now. Each needs a `looked` or `remove`."""
        taken: list[C] = []
        while self._due and self._due[0][0] <= now and len(taken) < MAX_LOOKS:
            taken.append(heapq.heappop(self._due)[2])
        return taken

    def looked(self, client: C, accepted_bytes: int, now: float) -> None:
        """Look again later at a client from `take_due`, which has acknowledged so much of its connection."""
        delay_s, before = self._looks[client]
        delay_s = next_delay_s(delay_s, moved=accepted_bytes > before)
        self._looks[client] = (delay_s, accepted_bytes)
        self._push(client, now + delay_s)

    def remove(self, client: C) -> None:
        """Forget a client from `take_due`, for which nothing waits any more."""
        del self._looks[client]

    def _push(self, client: C, due: float) -> None:
        self._added += 1
        heapq.heappush(self._due, (due, self._added, client))
