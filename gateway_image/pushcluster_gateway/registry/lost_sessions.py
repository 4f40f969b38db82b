"""Which of a user's sessions belong to gateways that are lost: decided from entries and leases alone.

The operator removes them, and sees the pods too. This is for the time in which it is away: until then they would hold
places that their user needs. Nothing but a user's own CONNECT asks for it, and only about that user.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.session_entry import SessionEntry


@dataclass(frozen=True, slots=True)
class LostSession:
    """A session to be removed, if it still belongs to this process."""

    sid: str
    incarnation: Incarnation


def parse_holders(entries: Mapping[bytes, bytes]) -> dict[str, Incarnation]:
    """Return which process holds each session of `{u}:sessions`; entries that cannot be read are left out."""
    holders = {}
    for sid, entry in entries.items():
        try:
            holders[sid.decode()] = SessionEntry.parse(entry.decode()).incarnation
        except (InvalidInput, UnicodeDecodeError):
            continue  # whoever wrote it may be of a later version, and live
    return holders


def plan_lost(
    holders: Mapping[str, Incarnation],
    leases: Mapping[Incarnation, float | None],
    *,
    now_ms: int,
    lost_ms: int,
    own: Incarnation,
) -> tuple[LostSession, ...]:
    """Return the sessions whose process has no lease, or one that ran out `lost_ms` ago.

    `holders` were read before `leases` (expiries by Redis TIME, as `now_ms` is): a process takes its lease before it
    registers a session, so one that is missing in the later reading has been removed.
    """

    def is_lost(incarnation: Incarnation) -> bool:
        expires_ms = leases.get(incarnation)
        return incarnation != own and (expires_ms is None or expires_ms + lost_ms <= now_ms)

    return tuple(LostSession(sid, holder) for sid, holder in holders.items() if is_lost(holder))
