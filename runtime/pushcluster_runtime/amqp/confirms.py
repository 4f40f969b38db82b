"""Publisher confirms of one channel: finds the publish that an ack, a nack or a return speaks of.

The broker numbers publishes 1, 2, 3 … on each channel that is in confirm mode, acknowledges single numbers or "all up
to this one", and sends `basic.return` before the `basic.ack` of an unroutable mandatory message
(https://www.rabbitmq.com/docs/confirms). A return carries no number, so a mandatory publish has its own in a header.
"""

import asyncio
from enum import Enum, auto
from typing import Final

SEQUENCE_HEADER: Final = "pc-seq"
"""On mandatory publishes only: the number that a return is matched by."""


class ConfirmOutcome(Enum):
    """What the broker did with a publish."""

    CONFIRMED = auto()
    RETURNED = auto()
    """Mandatory, and no queue took it."""
    NACKED = auto()
    """A queue refused it (full, or failing): nobody has it."""


class Confirms:
    """The publishes of one channel that wait for their outcome. No I/O; futures belong to the running loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[ConfirmOutcome]] = {}
        self._returned: set[int] = set()
        self._oldest = 1
        self._next = 1

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_number(self) -> int:
        """The number that the broker will give to the next publish."""
        return self._next

    def add(self, future: asyncio.Future[ConfirmOutcome]) -> None:
        """Note a publish that was handed to the connection."""
        self._waiting[self._next] = future
        self._next += 1

    def settle(self, number: int, *, multiple: bool, outcome: ConfirmOutcome) -> None:
        """Apply a `basic.ack` or `basic.nack`; `multiple` means every number up to this one."""
        if not multiple:
            self._resolve(number, outcome)
            return
        for each in range(self._oldest, number + 1):
            self._resolve(each, outcome)
        self._oldest = max(self._oldest, number + 1)

    def mark_returned(self, number: int) -> None:
        """Remember a `basic.return`; the outcome is told when its ack arrives."""
        if number in self._waiting:
            self._returned.add(number)

    def fail(self, error: Exception) -> None:
        """Fail everything that waits: the channel is gone, and nobody knows what became of it."""
        waiting, self._waiting = self._waiting, {}
        self._returned.clear()
        for future in waiting.values():
            fail_future(future, error)

    def _resolve(self, number: int, outcome: ConfirmOutcome) -> None:
        future = self._waiting.pop(number, None)
        if self._returned and number in self._returned:
            self._returned.remove(number)
            outcome = ConfirmOutcome.RETURNED if outcome is ConfirmOutcome.CONFIRMED else outcome
        if future is not None and not future.done():
            future.set_result(outcome)


def fail_future(future: asyncio.Future[ConfirmOutcome], error: Exception) -> None:
    """Give a future an error that nobody is obliged to collect."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as seen: a publisher that has left must not cause a warning
