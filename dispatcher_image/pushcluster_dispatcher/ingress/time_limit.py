"""How long the messages of one channel stay unacknowledged, and when they are given back. Pure: no I/O, no clock.

RabbitMQ bounds how long a consumer may hold a message. Past that limit it takes back each message by itself, and lets
another consumer go on meanwhile: what comes back then comes later than newer messages. A channel that is closed gives
back all its messages at once, in order. So the dispatcher closes it well before the limit.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

OLD_PART: Final = 0.25
"""The part of the limit after which what is held is old: its acknowledgement has no time to lose."""
GIVE_BACK_PART: Final = 0.5
"""The part of the limit after which messages are given back."""
LATEST_PART: Final = 0.75
"""The part of the limit after which they are given back although nobody knows what became of an append."""
GIVE_BACK_WITHIN_S: Final = 5.0
"""How long giving back may wait for the disk, and for copies, so that what is safe need not go back."""
LOOK_EVERY_S: Final = 0.01
"""At most as often a session looks whether it must give back: a clock may stand still for a rounding error."""
_GRAINS: Final = 100
"""Deliveries within this part of GIVE_BACK_PART count as one, as old as the first of them."""


class HeldTooLong(Exception):
    """A message has been unacknowledged for so long that all must be given back."""


@dataclass(slots=True)
class _Grain:
    last_tag: int
    since: float


class HeldTimes:
    """Since when one channel holds each message. Times are in seconds of a steady clock."""

    def __init__(self, limit_s: float) -> None:
        self._old_after_s = limit_s * OLD_PART
        self._give_back_after_s = limit_s * GIVE_BACK_PART
        self._latest_after_s = limit_s * LATEST_PART
        self._grain_s = self._give_back_after_s / _GRAINS
        self._grains: deque[_Grain] = deque()
        self._taken = 0
        self._released = 0

    @property
    def held(self) -> int:
        """How many messages are unacknowledged. Delivery tags count from 1."""
        return self._taken - self._released

    def take(self, tag: int, now: float) -> None:
        """Note a delivery."""
        self._taken = tag
        if self._grains and now - self._grains[-1].since < self._grain_s:
            self._grains[-1].last_tag = tag
        else:
            self._grains.append(_Grain(tag, now))

    def release(self, tag: int) -> None:
        """Note that everything up to this tag is acknowledged."""
        self._released = max(self._released, tag)
        while self._grains and self._grains[0].last_tag <= tag:
            self._grains.popleft()

    def oldest_s(self, now: float) -> float:
        """Return how long the oldest message has been held. 0 without any."""
        return now - self._grains[0].since if self._grains else 0.0

    def is_old(self, now: float) -> bool:
        """Return whether the oldest message has been held for OLD_PART of the limit."""
        return self.oldest_s(now) >= self._old_after_s

    def left_s(self, now: float) -> float:
        """Return how long nothing has to be given back yet, whatever comes meanwhile. 0 or less: give back now."""
        return self._give_back_after_s - self.oldest_s(now)

    def latest_left_s(self, now: float) -> float:
        """Return the same for LATEST_PART."""
        return self._latest_after_s - self.oldest_s(now)
