"""The deadlines of a client, and when the gateway must send a heart-beat. No I/O, no clock."""

from dataclasses import dataclass
from typing import Final

from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.frames import HeartBeat, negotiate_interval_ms

SEND_EARLY: Final = 0.8
"""A heart-beat is sent after this part of its interval, because the timer wheel may be late by one tick."""
NEVER: Final = float("inf")
MAX_TIMER_MS: Final = 2**31 - 1
"""The longest delay of a browser's `setTimeout`. A timer with a longer one goes off at once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do now."""

    close: Close | None
    """Why the connection must end; None: it goes on."""
    send_heart_beat: bool
    look_again_at: float


class Deadlines:
    """The deadlines of one client. All times are seconds of one monotonic clock."""

    __slots__ = ("_connect_by", "_expects_s", "_limits", "_sends_s", "_unconnected", "expires_at", "received_at")

    def __init__(self, limits: Limits, now: float) -> None:
        self.received_at = now
        """When the client last sent anything, also a heart-beat."""
        self._limits = limits
        self._connect_by = now + limits.connect_timeout_s
        self._unconnected = close_codes.CONNECT_TIMEOUT
        self.expires_at = NEVER
        """When the client's token expires."""
        self._expects_s = 0.0
        self._sends_s = 0.0

    def connect_received(self) -> None:
        """Note that CONNECT came. From now on a timeout is not the client's fault."""
        self._unconnected = close_codes.UNAVAILABLE

    def connected(self, *, ours: HeartBeat, theirs: HeartBeat, expires_at: float) -> None:
        """Note that the client is authenticated until `expires_at`, and agree on heart-beats."""
        self._connect_by = NEVER
        self.expires_at = expires_at
        self._expects_s = negotiate_interval_ms(theirs.can_ms, ours.wants_ms) / 1_000
        self._sends_s = negotiate_interval_ms(ours.can_ms, theirs.wants_ms) / 1_000

    def expires_in_ms(self, now: float) -> int | None:
        """Return for how many ms the token is valid. None: it does not expire, or no client can wait so long."""
        if self.expires_at == NEVER:
            return None
        left_ms = max(0, int((self.expires_at - now) * 1_000))
        return left_ms if left_ms <= MAX_TIMER_MS else None

    @property
    def expects_heart_beats(self) -> bool:
        """Whether the client has agreed to send heart-beats."""
        return self._expects_s > 0

    def check(self, now: float, *, written_at: float) -> Verdict:
        """Return what to do now. `written_at` is when data was last written to the client."""
        silent_until = self.received_at + self._expects_s * self._limits.heart_beat_grace if self._expects_s else NEVER
        for deadline, close in (
            (self._connect_by, self._unconnected),
            (self.expires_at, close_codes.TOKEN_EXPIRED),
            (silent_until, close_codes.NO_HEART_BEAT),
        ):
            if now >= deadline:
                return Verdict(close, send_heart_beat=False, look_again_at=NEVER)
        send_at = written_at + self._sends_s * SEND_EARLY if self._sends_s else NEVER
        due = now >= send_at
        if due:
            send_at = now + self._sends_s * SEND_EARLY
        return Verdict(None, due, min(self._connect_by, self.expires_at, silent_until, send_at))
