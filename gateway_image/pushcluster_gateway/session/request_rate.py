"""How fast one session may subscribe and unsubscribe. No I/O, no clock."""


class RequestRate:
    """A token bucket. It holds one number: when the bucket will be full again, in seconds of any one clock.

    Source: the generic cell rate algorithm (ITU-T I.371).
    """

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        self._full_at = 0.0

    def take(self, now: float, *, burst: int, per_s: float) -> float:
        """Take a token from a bucket of `burst`, refilled with `per_s`. Return when there will be another one.

        This is `now` or earlier while there is one already. A bucket that is empty goes into debt.
        """
        self._full_at = max(self._full_at, now) + 1 / per_s
        return self._full_at - (burst - 1) / per_s
