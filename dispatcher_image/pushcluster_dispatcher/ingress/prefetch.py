"""How many bytes of messages a partition holds, and which prefetch keeps it within its limit. Pure."""

from collections import deque
from typing import Final

from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES

MAX_HELD_BYTES: Final = 2 * 1_048_576
"""Bytes of bodies and properties that one partition holds unacknowledged. A larger message is held alone."""
MESSAGE_OVERHEAD_BYTES: Final = 1_024
"""What a message takes besides: Python objects, its part of a pipeline to Redis, its copies."""
_MIN_PREFETCH: Final = 8
_SHARE: Final = 0.75
"""The part of MAX_HELD_BYTES that a full prefetch of average messages takes. The rest is for larger ones."""
_WEIGHT: Final = 1 / 64
"""The weight of the newest message in the average size."""


def plan_prefetch(average_bytes: float) -> int:
    """Return the prefetch for messages of this size."""
    fitting = int(MAX_HELD_BYTES * _SHARE / max(1.0, average_bytes))
    return max(_MIN_PREFETCH, min(DISPATCHER_PREFETCH_MESSAGES, fitting))


class MessageSizes:
    """The bytes that one session holds. It takes no more messages once its prefetch turns out wrong."""

    def __init__(self, prefetch: int) -> None:
        self.wanted_prefetch: int | None = None
        self._prefetch = prefetch
        self._held: deque[tuple[int, int]] = deque()
        self._held_bytes = 0
        self._average: float | None = None
        self._until_judged = 4 * prefetch

    @property
    def held_bytes(self) -> int:
        """Bytes taken and not released."""
        return self._held_bytes

    @property
    def held_part(self) -> float:
        """The part of the prefetch that is held, in messages or in bytes. More than 1 if a large one is held alone."""
        return max(len(self._held) / self._prefetch, self._held_bytes / MAX_HELD_BYTES)

    def take(self, tag: int, size: int) -> bool:
        """Return whether the delivery is held from now on. After the first that is not, none is."""
        cost = size + MESSAGE_OVERHEAD_BYTES
        self._average = cost if self._average is None else self._average + (cost - self._average) * _WEIGHT
        if self.wanted_prefetch is not None:
            return False
        if self._held and self._held_bytes + cost > MAX_HELD_BYTES:
            # At least halved, because the average may follow a change slowly.
            self.wanted_prefetch = min(plan_prefetch(self._average), max(_MIN_PREFETCH, self._prefetch // 2))
            return False
        self._until_judged -= 1
        if self._until_judged < 0 and plan_prefetch(self._average) >= 2 * self._prefetch:
            self.wanted_prefetch = plan_prefetch(self._average)
            return False
        self._held.append((tag, cost))
        self._held_bytes += cost
        return True

    def release(self, tag: int) -> None:
        """Note that everything up to this tag is acknowledged."""
        while self._held and self._held[0][0] <= tag:
            self._held_bytes -= self._held.popleft()[1]
