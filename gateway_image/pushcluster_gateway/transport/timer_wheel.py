"""A timer wheel: one timer for the deadlines of all connections, instead of one timer for each.

It is the simple form with one ring of "Hashed and hierarchical timing wheels" (Varghese and Lauck, 1987). An item that
is due later than one turn is returned once in each turn.
"""

from typing import Final, Generic, Protocol, TypeVar

NOT_SCHEDULED: Final = -1


class Timed(Protocol):
    """An item of a wheel. It holds its own slot, so that the wheel can remove it without a search."""

    wheel_slot: int
    """NOT_SCHEDULED at first. Afterwards only the wheel sets it."""


T = TypeVar("T", bound=Timed)
T_contra = TypeVar("T_contra", contravariant=True)


class Scheduler(Protocol[T_contra]):
    """The part of a wheel that its items use."""

    def schedule(self, item: T_contra, due: float) -> None:
        """Schedule the item for `due`. This replaces an earlier schedule."""


class TimerWheel(Generic[T]):
    """Items by when they are due. `advance` returns due items at most one tick late."""

    __slots__ = ("_passed_ticks", "_slots", "_tick_s")

    def __init__(self, *, tick_s: float, slots: int, now: float) -> None:
        self._tick_s = tick_s
        self._slots: list[set[T]] = [set() for _ in range(slots)]
        self._passed_ticks = int(now / tick_s)

    def schedule(self, item: T, due: float) -> None:
        """Have `advance` return the item once `due` is reached. This replaces an earlier schedule.

        An item that is due later than one turn of the wheel is returned early. Its owner schedules it again.
        """
        self.cancel(item)
        first, last = self._passed_ticks + 1, self._passed_ticks + len(self._slots) - 1
        ticks = last if due >= last * self._tick_s else max(first, -int(-due // self._tick_s))
        item.wheel_slot = ticks % len(self._slots)
        self._slots[item.wheel_slot].add(item)

    def cancel(self, item: T) -> None:
        """Remove the item, if it is scheduled."""
        if item.wheel_slot != NOT_SCHEDULED:
            self._slots[item.wheel_slot].discard(item)
            item.wheel_slot = NOT_SCHEDULED

    def advance(self, now: float) -> list[T]:
        """Return the items of all ticks that have passed, and remove them from the wheel."""
        due: list[T] = []
        target = int(now / self._tick_s)
        first = max(self._passed_ticks + 1, target - len(self._slots) + 1)
        for tick in range(first, target + 1):
            slot = self._slots[tick % len(self._slots)]
            due.extend(slot)
            slot.clear()
        self._passed_ticks = max(self._passed_ticks, target)
        for item in due:
            item.wheel_slot = NOT_SCHEDULED
        return due
