"""Decides which of a user's sessions belong to lost gateways, from entries and leases alone. No I/O.

Normally the operator removes such sessions, because it also sees the pods. This module is for the time when the
operator is down: lost sessions would then count against the session limit of their user. Only a CONNECT of a user at
the limit causes this check, and only for that user.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.session_entry import SessionEntry


@dataclass(frozen=True, slots=True)
class LostSession:
    """A session to remove if it still belongs to this incarnation."""

    sid: str
    incarnation: Incarnation


def parse_holders(entries: Mapping[bytes, bytes]) -> dict[str, Incarnation]:
    """Return the incarnation that holds each session of `{u}:sessions`. Unreadable entries are left out."""
    holders = {}
    for sid, entry in entries.items():
        try:
            holders[sid.decode()] = SessionEntry.parse(entry.decode()).incarnation
        except (InvalidInput, UnicodeDecodeError):
            continue  # a gateway of a later version may have written it
    return holders


def plan_lost(
    holders: Mapping[str, Incarnation],
    leases: Mapping[Incarnation, float | None],
    *,
    now_ms: int,
    lost_ms: int,
    own: Incarnation,
) -> tuple[LostSession, ...]:
    """Return the sessions whose incarnation has no lease, or one that ran out at least `lost_ms` ago.

    `leases` are expiries by Redis TIME, as `now_ms` is. Read `holders` before `leases`: a gateway takes its lease
    before it registers a session. So a lease that is missing in the later read has been removed.
    """

    def is_lost(incarnation: Incarnation) -> bool:
        expires_ms = leases.get(incarnation)
        return incarnation != own and (expires_ms is None or expires_ms + lost_ms <= now_ms)

    return tuple(LostSession(sid, holder) for sid, holder in holders.items() if is_lost(holder))
