"""Which clients a gateway accepts before it knows the user: bounds on their number and rate. No I/O, no clock.

The gateway does not count by address, because behind a load balancer all clients may share one. The registry bounds the
sessions of one user (`spec.gateway.maxSessionsPerUser`).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

BURST_S: Final = 1.0
"""The depth of a token bucket: after a pause, the handshakes of this time may come at once, up to MAX_BURST."""
MAX_BURST: Final = 50
"""Handshakes that may come at once at any rate. Each takes about a millisecond, for which the pushes of others wait."""
REFUSALS_PART: Final = 0.5
"""The rate of refused clients, as part of the rate of handshakes. It comes on top of that."""
HOLD_S: Final = 1.0
"""How long a socket keeps its token in each stage without showing a valid one. Then it counts as refused."""
FULL_RETRY_AFTER_S: Final = (5, 15)
"""A full pod tells clients to try again after a time between these two."""
DRAINING_RETRY_AFTER_S: Final = (1, 3)
"""The same for a pod that stops. It is short, because load balancers soon send clients to another pod."""


class RefusalCause(StrEnum):
    """Why a handshake is refused. The value is the label in metrics."""

    DRAINING = "draining"
    FULL = "full"


class CutCause(StrEnum):
    """Why a socket is cut without an answer, before its WebSocket is open. The value is the label in metrics."""

    CROWDED = "crowded"
    """There were too many sockets, and this one had waited longest for a complete request."""
    FULL = "full"
    """There were too many sockets, and no other socket could be evicted for this one."""
    GONE = "gone"
    """Its client had hung up before it was accepted."""
    SILENT = "silent"
    """It sent nothing before its deadline."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with HTTP status 503."""

    cause: RefusalCause
    reason: str
    retry_after_s: int


class TokenBucket:
    """Holds at most the tokens of BURST_S, and MAX_BURST. It may owe as many."""

    __slots__ = ("_at", "_depth", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._depth = max(1.0, min(rate_per_s * BURST_S, MAX_BURST))
        self._tokens = self._depth
        self._at = now

    def wait_s(self, now: float) -> float:
        """Return in how many seconds there will be a token; 0: there is one now."""
        self._tokens = min(self._depth, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        return max(0.0, (1 - self._tokens) / self._rate_per_s)

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        if self.wait_s(now):
            return False
        self._tokens -= 1
        return True

    def owe(self) -> None:
        """Take a token even if there is none."""
        self._tokens = max(-self._depth, self._tokens - 1)

    def give_back(self) -> None:
        """Undo one `take`."""
        self._tokens = min(self._depth, self._tokens + 1)


S = TypeVar("S", bound=Hashable)


class HandshakeRate(Generic[S]):
    """Who may be accepted, and who pays for it.

    A socket takes a token when it is accepted. It is spent when the client is authenticated, or refused because the pod
    is full. A client that is refused for another reason, or says nothing, pays from a bucket of its own, and its first
    token is given back. So refused clients do not use up what newcomers need, unless they come faster than both buckets
    allow: otherwise they would use up the processor.
    """

    __slots__ = ("_handshakes", "_held", "_refusals")

    def __init__(self, per_s: float, now: float) -> None:
        self._handshakes = TokenBucket(per_s, now)
        self._refusals = TokenBucket(per_s * REFUSALS_PART, now)
        self._held: OrderedDict[S, float] = OrderedDict()
        """When each socket that holds a token came into its stage, in this order."""

    def wait_s(self, now: float) -> float:
        """Return in how many seconds to accept the next socket; 0: now."""
        return self._handshakes.wait_s(now)

    def accepted(self, socket: S, now: float) -> None:
        """Take a token for a socket."""
        self._handshakes.owe()
        self._held[socket] = now

    def opened(self, pending: S, connection: S, now: float) -> None:
        """Hand the token of a pending socket over to its connection."""
        if self._held.pop(pending, None) is not None:
            self._held[connection] = now

    def spent(self, socket: S) -> None:
        """Spend the socket's token."""
        self._held.pop(socket, None)

    def authenticated(self, socket: S) -> None:
        """Spend the socket's token. If it was too slow and has none any more, take one."""
        if self._held.pop(socket, None) is None:
            self._handshakes.owe()

    def refused(self, socket: S, now: float) -> None:
        """Have a socket that showed nothing valid pay from the other bucket. Doing so twice is allowed."""
        if self._held.pop(socket, None) is not None and self._refusals.take(now):
            self._handshakes.give_back()

    def expire(self, now: float) -> None:
        """Have those pay likewise that hold their tokens for too long."""
        while self._held:
            socket, since = next(iter(self._held.items()))
            if now - since < HOLD_S:
                return
            self.refused(socket, now)


class Admission:
    """Decides for each handshake that came. All times are seconds of one monotonic clock."""

    def __init__(
        self, *, max_connections: int, handshakes_per_s: float, now: float, random: Callable[[], float]
    ) -> None:
        """`handshakes_per_s` 0 means no limit. `random` returns numbers evenly distributed from 0.0 up to 1.0."""
        self.max_connections = max_connections
        self.rate: HandshakeRate[object] | None = HandshakeRate(handshakes_per_s, now) if handshakes_per_s else None
        """None: no limit."""
        self._random = random

    def refuse(self, *, connections: int, draining: bool) -> Refusal | None:
        """Return the refusal of a handshake, or None to accept it. `connections` counts the accepted ones that stay."""
        if draining:
            return Refusal(RefusalCause.DRAINING, "this gateway stops", self._between(DRAINING_RETRY_AFTER_S))
        if connections >= self.max_connections:
            why = "this gateway has its maximum number of connections"
            return Refusal(RefusalCause.FULL, why, self._between(FULL_RETRY_AFTER_S))
        return None

    def _between(self, seconds: tuple[int, int]) -> int:
        first, last = seconds
        return first + int(self._random() * (last - first + 1))
