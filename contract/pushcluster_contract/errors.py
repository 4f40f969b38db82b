"""Errors, by who can correct them. The outermost layer of each program translates them for kopf, STOMP or HTTP.

PushClusterError
├── InvalidInput   the sender corrects the value; it will never be accepted as it is
└── Unavailable    nobody has to act; the same call may succeed later
    └── TooOld     whoever operates the service has to upgrade it first
"""


class PushClusterError(Exception):
    """Base of every error that the programs raise on purpose."""


class InvalidInput(PushClusterError, ValueError):
    """A value breaks a rule. The message names the value and what it may be."""


class Unavailable(PushClusterError):
    """A service cannot answer now: it is down, full or still loading. Repeat the call later."""

    def __init__(self, message: str = "", *, retry_after_ms: int | None = None) -> None:
        """`retry_after_ms` says when to repeat the call; None when that is not known."""
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class TooOld(Unavailable):
    """A service is older than required. Repeating the call shows when it has been upgraded."""
