"""A timing wheel: one clock for all deadlines of all connections, instead of a timer for each.

Hashed and hierarchical timing wheels, Varghese and Lauck, 1987: the simple form, with one ring. What is due later than
one turn is looked at once a turn.
"""

from typing import Final, Generic, Protocol, TypeVar

NOT_SCHEDULED: Final = -1


class Timed(Protocol):
    """What a wheel can hold: it keeps its own place, so that it can be taken out without a search."""

    wheel_slot: int
    """NOT_SCHEDULED at first; the wheel's own afterwards."""


T = TypeVar("T", bound=Timed)
T_contra = TypeVar("T_contra", contravariant=True)


class Scheduler(Protocol[T_contra]):
    """The side of a wheel that its items see."""

    def schedule(self, item: T_contra, due: float) -> None:
        """Have the item looked at once `due` is reached, instead of any earlier plan for it."""


class TimerWheel(Generic[T]):
    """`advance` returns what is due. Never early; late by at most one tick."""

    __slots__ = ("_passed_ticks", "_slots", "_tick_s")

    def __init__(self, *, tick_s: float, slots: int, now: float) -> None:
        self._tick_s = tick_s
        self._slots: list[set[T]] = [set() for _ in range(slots)]
        self._passed_ticks = int(now / tick_s)

    def schedule(self, item: T, due: float) -> None:
        """Have `advance` return the item once `due` is reached, instead of any earlier plan for it.

        An item that is due later than one turn of the wheel is returned early: it schedules itself again.
        """
        self.cancel(item)
        first, last = self._passed_ticks + 1, self._passed_ticks + len(self._slots) - 1
        ticks = last if due >= last * self._tick_s else max(first, -int(-due // self._tick_s))
        item.wheel_slot = ticks % len(self._slots)
        self._slots[item.wheel_slot].add(item)

    def cancel(self, item: T) -> None:
        """Take the item out, if it is in."""
        if item.wheel_slot != NOT_SCHEDULED:
            self._slots[item.wheel_slot].discard(item)
            item.wheel_slot = NOT_SCHEDULED

    def advance(self, now: float) -> list[T]:
        """Return the items of all ticks that have passed; they are out of the wheel then."""
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
