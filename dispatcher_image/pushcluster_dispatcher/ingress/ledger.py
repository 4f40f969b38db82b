"""Which deliveries of one channel may be acknowledged. Pure: no I/O, no clock.

A delivery may be acknowledged when three steps are done for it and for all deliveries before it: its message is in the
log (or in `push.rejected`), the broker has answered for its copies, and a barrier that began after the append has
ended. Deliveries come in batches, so the ledger has one entry for each batch.
"""

from collections import deque
from dataclasses import dataclass
from enum import Flag, auto


class Step(Flag):
    """What must be done for a batch before it is acknowledged."""

    APPENDED = auto()
    COPIED = auto()
    DURABLE = auto()


_NOTHING = Step(0)
_EVERYTHING = Step.APPENDED | Step.COPIED | Step.DURABLE


@dataclass(slots=True)
class _OpenBatch:
    first_tag: int
    last_tag: int
    done: Step = _NOTHING


class Ledger:
    """The batches of one channel, in the order of their delivery tags."""

    def __init__(self) -> None:
        self._open: deque[_OpenBatch] = deque()
        self._by_last_tag: dict[int, _OpenBatch] = {}
        """The same batches."""
        self._last_tag = 0

    @property
    def unacknowledged_batches(self) -> int:
        """How many batches have begun and are not acknowledged yet."""
        return len(self._open)

    def begin(self, first_tag: int, last_tag: int) -> None:
        """Open a batch. Raise ValueError unless tags follow each other without a hole, from 1."""
        if first_tag != self._last_tag + 1 or last_tag < first_tag:
            raise ValueError(f"batch {first_tag}-{last_tag} does not follow delivery {self._last_tag}")
        batch = self._by_last_tag[last_tag] = _OpenBatch(first_tag, last_tag)
        self._open.append(batch)
        self._last_tag = last_tag

    @property
    def done_behind(self) -> list[int]:
        """The deliveries for which every step is done, behind one for which something is missing."""
        done = (batch for batch in self._open if batch.done == _EVERYTHING)
        return [tag for batch in done for tag in range(batch.first_tag, batch.last_tag + 1)]

    def start_over(self) -> set[int]:
        """Take back the steps of every batch that is not complete, and return the last tags of these batches."""
        unfinished = [batch for batch in self._open if batch.done != _EVERYTHING]
        for batch in unfinished:
            batch.done = _NOTHING
        return {batch.last_tag for batch in unfinished}

    def mark(self, last_tag: int, step: Step) -> None:
        """Note that a step is done for the batch that ends with `last_tag`.

        Raise ValueError for an unknown batch, and for a barrier or copies before the append: they would belong to
        something else.
        """
        batch = self._by_last_tag.get(last_tag)
        if batch is None:
            raise ValueError(f"no open batch ends with delivery {last_tag}")
        batch.done |= step
        if Step.APPENDED not in batch.done:
            raise ValueError(f"{step} before the append of delivery {last_tag}")

    def take_complete(self) -> int | None:
        """Close the batches for which every step is done, up to the first for which one is missing.

        Return the tag up to which everything may be acknowledged now, or None if that has not moved.
        """
        tag = None
        while self._open and self._open[0].done == _EVERYTHING:
            tag = self._open.popleft().last_tag
            del self._by_last_tag[tag]
        return tag
