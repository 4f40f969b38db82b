"""What became of a message at the log. Pure."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import check_session_id
from pushcluster_contract.sessions import SessionEntry

CACHED_ENTRIES: Final = 8_192
"""Session entries that are remembered parsed: about a kilobyte each."""
CACHED_ENTRY_BYTES: Final = 256
"""Entries that are longer are parsed anew each time, so that the memory above stays bounded."""

RawSessions = tuple[bytes, ...]
"""A user's sessions as Redis has them: session id, entry, session id, entry, …"""

_log = logging.getLogger(__name__)


class Appended(NamedTuple):
    """What APPEND returned for one message."""

    stream_id: bytes
    known: bool
    """The producer's message id had been appended before."""
    dropped: int
    """Older entries that left the log undelivered."""
    sessions: RawSessions
    """The user's sessions, with any destination: `parse_sessions`."""
    expires_ms: int
    """When the message expires, ms since the epoch; 0: when the log drops it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Redis will never take this message."""

    reason: str


def parse_sessions(raw: RawSessions) -> Mapping[str, SessionEntry]:
    """Return session id → entry, without those that this version cannot read."""
    pairs: Iterable[tuple[bytes, bytes]] = zip(raw[::2], raw[1::2], strict=True)
    return {
        sid: entry
        for raw_sid, text in pairs
        if (sid := _parse_session_id(raw_sid)) is not None and (entry := _parse_entry(text)) is not None
    }


def _parse_session_id(raw: bytes) -> str | None:
    try:
        return check_session_id(raw.decode())
    except (InvalidInput, UnicodeDecodeError):
        _log.exception("unreadable session id", extra={"session": repr(raw[:200])})
        return None


def _parse_entry(text: bytes) -> SessionEntry | None:
    return _cached_entry(text) if len(text) <= CACHED_ENTRY_BYTES else _read_entry(text)


def _read_entry(text: bytes) -> SessionEntry | None:
    """Return an entry, or nothing for one that this version cannot read: its gateway catches up from the log."""
    try:
        return SessionEntry.parse(text.decode())
    except (InvalidInput, UnicodeDecodeError):
        _log.exception("unreadable session entry", extra={"entry": repr(text[:200])})
        return None


_cached_entry = lru_cache(maxsize=CACHED_ENTRIES)(_read_entry)
