"""Time and randomness, which come in from outside."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Environment:
    """Clocks and randomness of one process."""

    clock: Callable[[], float]
    """Seconds of the event loop, monotonic."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""
    entropy: Callable[[int], bytes]
    """That many bytes that nobody can guess."""
    random: Callable[[], float]
    """Evenly from 0.0 up to 1.0."""
