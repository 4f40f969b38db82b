"""Which sessions of a user belong to gateways that are lost."""

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_gateway.registry.lost_sessions import LostSession, parse_holders, plan_lost

OWN, OTHER = Incarnation("pod-1", "a" * 16), Incarnation("pod-2", "b" * 16)
NOW_MS, LOST_MS = 1_000_000, 60_000


def plan(holder: Incarnation, expires_ms: float | None) -> tuple[LostSession, ...]:
    return plan_lost({"s1": holder}, {holder: expires_ms}, now_ms=NOW_MS, lost_ms=LOST_MS, own=OWN)


@pytest.mark.parametrize(
    ("expires_ms", "lost"),
    [
        (NOW_MS + 8_000, False),
        (NOW_MS, False),
        (NOW_MS - LOST_MS + 1, False),
        (NOW_MS - LOST_MS, True),
        (0, True),
        (None, True),
    ],
)
def test_a_gateway_is_lost_once_its_lease_ran_out_long_ago_or_is_gone(expires_ms: float | None, lost: bool) -> None:
    assert plan(OTHER, expires_ms) == ((LostSession("s1", OTHER),) if lost else ())


def test_a_gateway_never_takes_itself_for_lost() -> None:
    assert plan(OWN, None) == plan(OWN, 0) == ()


def test_only_the_sessions_of_the_lost_one_go() -> None:
    holders = {"s1": OTHER, "s2": OWN, "s3": OTHER, "s4": Incarnation("pod-3", "c" * 16)}
    leases = {OTHER: 0.0, OWN: 0.0, holders["s4"]: NOW_MS + 1.0}
    lost = plan_lost(holders, leases, now_ms=NOW_MS, lost_ms=LOST_MS, own=OWN)
    assert lost == (LostSession("s1", OTHER), LostSession("s3", OTHER))


def test_entries_that_cannot_be_read_are_left_alone() -> None:
    entries = {
        b"s1": SessionEntry(OTHER, (Destination("queue", "demo"),)).encode().encode(),
        b"s2": b"garbage",
        b"s3": b"\xff",
        b"\xff": str(OTHER).encode(),
    }
    assert parse_holders(entries) == {"s1": OTHER}
