"""Which deliveries of one channel may be acknowledged (step D6). Pure: no I/O, no clock.

A delivery may go only after three things hold for it and for all before it: its message stands in the log (or in
`push.rejected`), its copies have met their fate, and a barrier that began after the append has ended. Deliveries are
taken in batches, so the ledger keeps one line for each batch.
"""

from collections import deque
from dataclasses import dataclass
from enum import Flag, auto


class Step(Flag):
    """What has to hold for a batch."""

    APPENDED = auto()
    COPIED = auto()
    DURABLE = auto()


_NOTHING = Step(0)
_EVERYTHING = Step.APPENDED | Step.COPIED | Step.DURABLE


@dataclass(slots=True)
class _Line:
    last_tag: int
    done: Step = _NOTHING


class Ledger:
    """The batches of one channel, in the order of their delivery tags."""

    def __init__(self) -> None:
        self._open: deque[_Line] = deque()
        self._last_tag = 0

    @property
    def unacknowledged_batches(self) -> int:
        """How many batches have begun and are not acknowledged."""
        return len(self._open)

    def begin(self, first_tag: int, last_tag: int) -> None:
        """Open a batch; tags follow each other without a hole, from 1. Raises ValueError when they do not."""
        if first_tag != self._last_tag + 1 or last_tag < first_tag:
            raise ValueError(f"batch {first_tag}-{last_tag} does not follow delivery {self._last_tag}")
        self._open.append(_Line(last_tag))
        self._last_tag = last_tag

    def mark(self, last_tag: int, step: Step) -> int | None:
        """Note that a step holds for the batch that ends with `last_tag`.

        Returns the tag up to which everything may now be acknowledged, if that has moved. Raises ValueError for an
        unknown batch, and for a barrier or copies before the append: they would speak of something else.
        """
        line = next((line for line in self._open if line.last_tag == last_tag), None)
        if line is None:
            raise ValueError(f"no open batch ends with delivery {last_tag}")
        line.done |= step
        if Step.APPENDED not in line.done:
            raise ValueError(f"{step} before the append of delivery {last_tag}")
        acknowledged = None
        while self._open and self._open[0].done == _EVERYTHING:
            acknowledged = self._open.popleft().last_tag
        return acknowledged
