"""The result of appending a message. Pure."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.ids import Incarnation, check_session_id

CACHED_INCARNATIONS: Final = 1_024
"""How many gateway processes' names are cached when parsed."""

_WITHOUT_QUEUE: Final = b" -"
_log = logging.getLogger(__name__)


class Appended(NamedTuple):
    """What APPEND returned for one message."""

    stream_id: bytes
    """Empty: an attempt that was made before, and whose entry has left the log."""
    known: bool
    """Whether it had been appended before: the same message id, or this very attempt."""
    dropped: int
    """How many older entries left the log undelivered."""
    sessions: bytes
    """The user's sessions that subscribe to the destination. `parse_sessions` reads them."""
    expires_ms: int
    """When the message expires, in ms since the epoch. 0: when the log drops it."""
    held: tuple[bytes, bytes] | None = None
    """For a known message: its content type and encoded headers in the log. None if it has left the log."""
    made_before: bool = False
    """Whether this very attempt had been made before, over a connection that was lost."""
    got: bool = False
    """Whether the message id was known, and some session of the user has got the message."""


class StaleToken(Unavailable):
    """Redis refuses appends with this fencing token: another consumer of the partition has appended since."""


@dataclass(frozen=True, slots=True)
class AppendRefused:
    """Redis will never take this message."""

    reason: str
    other_body: bool = False
    """Whether the log has another message under this message id."""


def parse_sessions(raw: bytes) -> Mapping[str, Incarnation]:
    """Return session id → gateway process, from lines `<session id> <incarnation>[ -]`.

    Unreadable lines are left out. The gateways of those sessions read the messages from the log.
    """
    sessions: dict[str, Incarnation] = {}
    for line in raw.splitlines():
        sid, _, incarnation = line.partition(b" ")
        try:
            sessions[check_session_id(sid.decode())] = _read_incarnation(incarnation.removesuffix(_WITHOUT_QUEUE))
        except (InvalidInput, UnicodeDecodeError):
            _log.exception("a session cannot be read; it gets no copies", extra={"session": repr(line[:200])})
    return sessions


def parse_without_queue(raw: bytes) -> frozenset[str]:
    """Return the ids of those sessions that have no queue of their own for the destination, from the same lines."""
    lines = raw.splitlines() if _WITHOUT_QUEUE in raw else ()
    return frozenset(line.partition(b" ")[0].decode() for line in lines if line.endswith(_WITHOUT_QUEUE))


@lru_cache(maxsize=CACHED_INCARNATIONS)
def _read_incarnation(text: bytes) -> Incarnation:
    return Incarnation.parse(text.decode())
