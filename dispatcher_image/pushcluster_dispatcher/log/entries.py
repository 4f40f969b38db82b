"""What became of a message at the log. Pure."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import Incarnation, check_session_id

CACHED_INCARNATIONS: Final = 1_024
"""Gateway processes whose names are remembered parsed."""

_log = logging.getLogger(__name__)


class Appended(NamedTuple):
    """What APPEND returned for one message."""

    stream_id: bytes
    known: bool
    """The producer's message id had been appended before."""
    dropped: int
    """Older entries that left the log undelivered."""
    sessions: bytes
    """The user's sessions that have the destination: `parse_sessions`."""
    expires_ms: int
    """When the message expires, ms since the epoch; 0: when the log drops it."""
    held: tuple[bytes, bytes] | None = None
    """Of a known message: content type and encoded headers as the log has them; None when it has left the log."""


@dataclass(frozen=True, slots=True)
class AppendRefused:
    """Redis will never take this message."""

    reason: str
    other_body: bool = False
    """The log has another one under its message id."""


def parse_sessions(raw: bytes) -> Mapping[str, Incarnation]:
    """Return session id → gateway, from `<session id> <incarnation>` a line; without those that cannot be read.

    Their gateways catch up from the log.
    """
    sessions: dict[str, Incarnation] = {}
    for line in raw.splitlines():
        sid, _, incarnation = line.partition(b" ")
        try:
            sessions[check_session_id(sid.decode())] = _read_incarnation(incarnation)
        except (InvalidInput, UnicodeDecodeError):
            _log.exception("unreadable session", extra={"session": repr(line[:200])})
    return sessions


@lru_cache(maxsize=CACHED_INCARNATIONS)
def _read_incarnation(text: bytes) -> Incarnation:
    return Incarnation.parse(text.decode())
