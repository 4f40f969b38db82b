"""Publisher confirms of one channel: find the publish that an ack, a nack or a return belongs to.

The broker numbers the publishes 1, 2, 3 … on each channel in confirm mode. It acknowledges a single number, or all up
to a number. For an unroutable mandatory message it sends `basic.return` before the `basic.ack`
(https://www.rabbitmq.com/docs/confirms). A return carries no number, so a mandatory publish has its number in a header.
"""

import asyncio
from enum import Enum, auto
from typing import Final

SEQUENCE_HEADER: Final = "pc-seq"
"""The header with the number of a mandatory publish, by which a return is matched."""


class ConfirmOutcome(Enum):
    """What the broker did with a publish."""

    CONFIRMED = auto()
    RETURNED = auto()
    """The publish was mandatory, and no queue took it."""
    NACKED = auto()
    """A queue refused it (full, or failing), so nobody has it."""


class Confirms:
    """The publishes of one channel that wait for their outcome. No I/O. The futures belong to the running loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[ConfirmOutcome]] = {}
        self._returned: set[int] = set()
        self._oldest = 1
        self._next = 1

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_number(self) -> int:
        """The number that the broker gives to the next publish."""
        return self._next

    def add(self, future: asyncio.Future[ConfirmOutcome]) -> None:
        """Note a publish that was handed to the connection."""
        self._waiting[self._next] = future
        self._next += 1

    def settle(self, number: int, *, multiple: bool, outcome: ConfirmOutcome) -> None:
        """Apply a `basic.ack` or `basic.nack`. `multiple` means every number up to this one."""
        if not multiple:
            self._resolve(number, outcome)
            return
        for each in range(self._oldest, number + 1):
            self._resolve(each, outcome)
        self._oldest = max(self._oldest, number + 1)

    def mark_returned(self, number: int) -> None:
        """Remember a `basic.return`. The future gets its outcome when the ack arrives."""
        if number in self._waiting:
            self._returned.add(number)

    def fail(self, error: Exception) -> None:
        """Fail all waiting publishes: the channel is gone, and nobody knows what became of them."""
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
    """Give a future an error that nobody needs to collect."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as seen, so that asyncio does not warn if nobody waits
