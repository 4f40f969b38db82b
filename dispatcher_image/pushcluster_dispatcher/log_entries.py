"""What became of a message at the log. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from pushcluster_contract.sessions import SessionEntry


@dataclass(frozen=True, slots=True)
class Appended:
    """What APPEND returned for one message."""

    stream_id: str
    known: bool
    """The producer's message id had been appended before."""
    dropped: int
    """Older entries that left the log undelivered."""
    sessions: Mapping[str, SessionEntry]
    """The user's sessions by their ids, with any destination."""
    expires_ms: int
    """When the message expires, ms since the epoch; 0: when the log drops it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Redis will never take this message."""

    reason: str
