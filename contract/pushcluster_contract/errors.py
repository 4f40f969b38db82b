"""Errors by who can mend them; shells translate them for kopf, STOMP or HTTP.

PushClusterError
├── InvalidInput   the sender of this value: it will never be accepted as it is
└── Unavailable    time: the same call may succeed later
    └── TooOld     whoever keeps the service: it has to be upgraded first
"""


class PushClusterError(Exception):
    """Base of every error that the programs raise on purpose."""


class InvalidInput(PushClusterError, ValueError):
    """A value breaks a rule; the message names the value and what it may be."""


class Unavailable(PushClusterError):
    """A service cannot answer now (down, full, loading); repeating later is right."""

    def __init__(self, message: str = "", *, retry_after_ms: int | None = None) -> None:
        """`retry_after_ms`: when that is, where it is known."""
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class TooOld(Unavailable):
    """A service is older than what is needed; repeating finds out when it was upgraded."""
