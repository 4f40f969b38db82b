"""Exponential back-off with jitter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 5.0


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next attempt.

    The ceiling doubles with every failure. The delay is drawn evenly from its upper half: programs that lost the same
    broker do not all come back at the same time, and none comes back at once.
    """

    random: Callable[[], float]
    """Returns evenly distributed numbers from 0.0 up to 1.0, such as `random.random`."""
    first_s: float = FIRST_DELAY_S
    max_s: float = MAX_DELAY_S
    _failures: int = 0

    def next_delay_s(self) -> float:
        """Count a failure and return the seconds to wait."""
        # The exponent is bounded, because 2**1024 would not fit a float. By 64, the ceiling is long reached.
        ceiling = min(self.max_s, self.first_s * 2.0 ** min(self._failures, 64))
        self._failures += 1
        return ceiling * (0.5 + self.random() / 2)

    def reset(self) -> None:
        """Start over, after a success."""
        self._failures = 0
