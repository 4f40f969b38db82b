"""Time and randomness, passed in so that tests can control them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Environment:
    """Clocks and randomness of one process."""

    clock: Callable[[], float]
    """Seconds of the event loop, monotonic."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch, for the times in tokens and the metric of hops alone. It may be set at any time."""
    entropy: Callable[[int], bytes]
    """Returns this many bytes that nobody can guess."""
    random: Callable[[], float]
    """Returns a number, evenly distributed from 0.0 up to 1.0."""
