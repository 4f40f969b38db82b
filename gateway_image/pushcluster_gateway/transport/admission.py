"""Whom a gateway lets in before anybody is known: so many connections, so many handshakes a second. No I/O, no clock.

Who is refused is told when to come again, and not all at the same time. Addresses are not counted: behind an ingress
all clients share one, and what one user may have is bounded in the registry (`spec.gateway.maxSessionsPerUser`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BURST_S: Final = 1.0
"""After a pause, as many handshakes as the rate allows in this time may come at once."""
MAX_RETRY_AFTER_S: Final = 60
"""The longest wait that is asked for; what comes past it is spread over all of this time."""
FULL_RETRY_AFTER_S: Final = (5, 15)
"""Between which seconds clients come again to a pod that is full."""
DRAINING_RETRY_AFTER_S: Final = (1, 3)
"""The same for a pod that stops: load balancers soon leave it out."""


class RefusalCause(StrEnum):
    """Why a handshake is refused: the label in metrics."""

    DRAINING = "draining"
    FULL = "full"
    RATE = "rate"


class CutCause(StrEnum):
    """Why a socket is cut before its WebSocket is open, without an answer: the label in metrics."""

    CROWDED = "crowded"
    """It was the oldest that had sent no whole request when there were too many sockets."""
    FULL = "full"
    """There were too many sockets, and all others belong to clients that are known."""
    SILENT = "silent"
    """It sent nothing at all in time."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with HTTP status 503."""

    cause: RefusalCause
    reason: str
    retry_after_s: int


class HandshakeRate:
    """A token bucket. Those whom it refuses are promised one slot after the other, at the same rate."""

    __slots__ = ("_at", "_depth", "_promised_until", "_random", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, now: float, random: Callable[[], float]) -> None:
        self._rate_per_s = rate_per_s
        self._depth = max(1.0, rate_per_s * BURST_S)
        self._tokens = self._depth
        self._at = self._promised_until = now
        self._random = random

    def take(self, now: float) -> float:
        """Return 0 when one more may come in now, else after how many seconds to try again."""
        self._tokens = min(self._depth, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        self._promised_until = max(self._promised_until, now) + 1 / self._rate_per_s
        if self._promised_until > now + MAX_RETRY_AFTER_S:
            self._promised_until = now + MAX_RETRY_AFTER_S
            return self._random() * MAX_RETRY_AFTER_S
        return self._promised_until - now


class Admission:
    """Decides for each handshake. All times are seconds of one monotonic clock."""

    def __init__(
        self, *, max_connections: int, handshakes_per_s: float, now: float, random: Callable[[], float]
    ) -> None:
        """`handshakes_per_s` 0 is no limit; `random` gives numbers evenly from 0.0 up to 1.0."""
        self.max_connections = max_connections
        self._rate = HandshakeRate(handshakes_per_s, now, random) if handshakes_per_s else None
        self._random = random

    def refuse(self, now: float, *, connections: int, draining: bool) -> Refusal | None:
        """Return why a handshake is refused, or None; `connections` are those that got through theirs and stay."""
        if draining:
            return Refusal(RefusalCause.DRAINING, "this gateway stops", self._between(DRAINING_RETRY_AFTER_S))
        if connections >= self.max_connections:
            why = "this gateway has all the connections that it may have"
            return Refusal(RefusalCause.FULL, why, self._between(FULL_RETRY_AFTER_S))
        wait_s = self._rate.take(now) if self._rate is not None else 0.0
        if wait_s:
            return Refusal(RefusalCause.RATE, "too many clients connect at once", max(1, math.ceil(wait_s)))
        return None

    def _between(self, seconds: tuple[int, int]) -> int:
        first, last = seconds
        return first + int(self._random() * (last - first + 1))
