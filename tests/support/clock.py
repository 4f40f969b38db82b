"""Clocks in the hands of a test: what waits for seconds is over at once, and not before."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

STEPS: Final = 20
"""Turns of the loop in which everything that has become due has happened."""


class ManualClock:
    """What is handed in as a clock: it stands still until somebody sets it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class MovedClock:
    """The running event loop's clock, which stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0 + int(asyncio.get_running_loop().time())

    async def move(self, seconds: float) -> None:
        """Let this time pass, and let happen what was planned for it."""
        self.now += seconds
        for _ in range(STEPS):
            await asyncio.sleep(0)


@contextmanager
def moved_clock() -> Iterator[MovedClock]:
    """Hold the running loop's clock. On uvloop timers go on by another one: only who asks for the time sees this."""
    clock = MovedClock()
    with patch.object(asyncio.get_running_loop(), "time", lambda: clock.now):
        yield clock
