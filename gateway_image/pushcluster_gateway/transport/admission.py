"""Which handshakes a gateway accepts before it knows the user: bounds on their number and rate. No I/O, no clock.

A refused client is told when to try again, and different clients are told different times. The gateway does not count
by address, because behind a load balancer all clients may share one. The registry bounds the sessions of one user
(`spec.gateway.maxSessionsPerUser`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BURST_S: Final = 1.0
"""The depth of the token bucket: after a pause, the handshakes of this time may come at once."""
MAX_RETRY_AFTER_S: Final = 60
"""The longest wait that a client is told. Clients beyond it are spread over all of this time."""
FULL_RETRY_AFTER_S: Final = (5, 15)
"""A full pod tells clients to try again after a time between these two."""
DRAINING_RETRY_AFTER_S: Final = (1, 3)
"""The same for a pod that stops. It is short, because load balancers soon send clients to another pod."""


class RefusalCause(StrEnum):
    """Why a handshake is refused. The value is the label in metrics."""

    DRAINING = "draining"
    FULL = "full"
    RATE = "rate"


class CutCause(StrEnum):
    """Why a socket is cut without an answer, before its WebSocket is open. The value is the label in metrics."""

    CROWDED = "crowded"
    """There were too many sockets, and this one had waited longest for a complete request."""
    FULL = "full"
    """There were too many sockets, and no other socket could be evicted for this one."""
    SILENT = "silent"
    """It sent nothing before its deadline."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with HTTP status 503."""

    cause: RefusalCause
    reason: str
    retry_after_s: int


class HandshakeRate:
    """A token bucket. It promises refused clients one later slot after the other, at the same rate."""

    __slots__ = ("_at", "_depth", "_promised_until", "_random", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, now: float, random: Callable[[], float]) -> None:
        self._rate_per_s = rate_per_s
        self._depth = max(1.0, rate_per_s * BURST_S)
        self._tokens = self._depth
        self._at = self._promised_until = now
        self._random = random

    def take(self, now: float) -> float:
        """Return 0 if one more handshake is allowed now. Else return after how many seconds to try again."""
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
        """`handshakes_per_s` 0 means no limit. `random` returns numbers evenly distributed from 0.0 up to 1.0."""
        self.max_connections = max_connections
        self._rate = HandshakeRate(handshakes_per_s, now, random) if handshakes_per_s else None
        self._random = random

    def refuse(self, now: float, *, connections: int, draining: bool) -> Refusal | None:
        """Return the refusal of a handshake, or None to accept it. `connections` counts the accepted ones that stay."""
        if draining:
            return Refusal(RefusalCause.DRAINING, "this gateway stops", self._between(DRAINING_RETRY_AFTER_S))
        if connections >= self.max_connections:
            why = "this gateway has its maximum number of connections"
            return Refusal(RefusalCause.FULL, why, self._between(FULL_RETRY_AFTER_S))
        wait_s = self._rate.take(now) if self._rate is not None else 0.0
        if wait_s:
            return Refusal(RefusalCause.RATE, "too many clients connect at once", max(1, math.ceil(wait_s)))
        return None

    def _between(self, seconds: tuple[int, int]) -> int:
        first, last = seconds
        return first + int(self._random() * (last - first + 1))
