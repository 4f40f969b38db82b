"""How many copies of refused messages each user may cause. No I/O, no clock.

A copy shows a back end what its client could not handle. A client that refuses everything would push the copies of
other users out of the queue. The bound is for a user and not for a session: a session that begins anew, or 64 of them
that refuse the same message, have no more copies than one.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MAX_REFUSING_USERS: Final = 10_000
"""Users whose copies are counted. Past it, the user whose last NACK is oldest begins anew."""


class CopyGrant(Enum):
    """Whether one more copy may be made."""

    GRANTED = auto()
    FIRST_DENIED = auto()
    """No, and since the user's bucket was last full this is the first time."""
    DENIED = auto()


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    was_denied: bool = False


class RefusalQuota:
    """A token bucket for each user. All times are seconds of one monotonic clock."""

    def __init__(self, *, burst: int, per_s: float) -> None:
        """`burst` copies may be made at once, and `per_s` of them in the long run."""
        self._burst = burst
        self._per_s = per_s
        self._buckets: dict[str, _Bucket] = {}
        """In the order of their last use."""

    def __len__(self) -> int:
        """Return of how many users copies are counted."""
        return len(self._buckets)

    def take(self, user: str, now: float) -> CopyGrant:
        """Take one copy of this user's, if there is one left."""
        self._forget_full(now)
        bucket = self._buckets.pop(user, None) or _Bucket(self._burst, now)
        self._buckets[user] = bucket  # the last one in the order now
        if len(self._buckets) > MAX_REFUSING_USERS:
            del self._buckets[next(iter(self._buckets))]
        bucket.tokens, bucket.at = self._filled(bucket, now), now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return CopyGrant.GRANTED
        grant = CopyGrant.DENIED if bucket.was_denied else CopyGrant.FIRST_DENIED
        bucket.was_denied = True
        return grant

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + (now - bucket.at) * self._per_s)

    def _forget_full(self, now: float) -> None:
        """Forget users whose buckets are full again, as far as they were used longest ago."""
        while self._buckets:
            user, bucket = next(iter(self._buckets.items()))
            if self._filled(bucket, now) < self._burst:
                return
            del self._buckets[user]
