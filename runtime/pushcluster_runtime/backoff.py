"""Exponential back-off with full jitter for supervisors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 5.0


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next attempt.

    The ceiling doubles with every failure; the delay is drawn evenly from its upper half, so that programs which lost
    the same broker do not all come back at once, and none comes back immediately.
    """

    random: Callable[[], float]
    """Evenly from 0.0 up to 1.0, such as `random.random`."""
    first_s: float = FIRST_DELAY_S
    max_s: float = MAX_DELAY_S
    _failures: int = 0

    def next_delay_s(self) -> float:
        """Count a failure and return the seconds to wait."""
        # The exponent stops growing long after the ceiling is reached: 2**1024 would not fit a float.
        ceiling = min(self.max_s, self.first_s * 2.0 ** min(self._failures, 64))
        self._failures += 1
        return ceiling * (0.5 + self.random() / 2)

    def reset(self) -> None:
        """Start over after a success that lasted."""
        self._failures = 0
