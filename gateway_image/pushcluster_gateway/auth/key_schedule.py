"""When to read the keys that verify tokens: regularly, sooner after a failure, and when none verifies a token.

No I/O, no clock. All times are seconds of one monotonic clock.
"""

from collections.abc import Callable
from typing import Final

FIRST_RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 60.0
_SPREAD: Final = 0.1
"""Spreads the reads of pods that started together."""


class KeySchedule:
    """The schedule of one source of keys. Only one read runs at a time."""

    def __init__(self, *, refresh_s: float, min_interval_s: float, random: Callable[[], float]) -> None:
        """`min_interval_s`: least time between two reads for unknown keys. `random`: numbers from 0.0 up to 1.0."""
        self._refresh_s = refresh_s
        self._min_interval_s = min_interval_s
        self._random = random
        self._began_at = float("-inf")
        self._failures = 0

    def begin(self, now: float) -> None:
        """Note that a read begins."""
        self._began_at = now

    def refresh_allowed_in_s(self, now: float) -> float:
        """Return after how many seconds a token that no key verifies may cause the next read; 0: at once."""
        return max(0.0, self._began_at + self._min_interval_s - now)

    def succeed(self) -> float:
        """Note that a read succeeded. Return after how many seconds the next one is due."""
        self._failures = 0
        return self._refresh_s * (1 + _SPREAD * (2 * self._random() - 1))

    def fail(self) -> float:
        """Note that a read failed. Return after how many seconds to try again."""
        ceiling = min(MAX_RETRY_S, self._refresh_s, FIRST_RETRY_S * 2.0 ** min(self._failures, 64))
        self._failures += 1
        return ceiling * (0.5 + self._random() / 2)
