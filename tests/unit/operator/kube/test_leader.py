"""One leader at a time."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pushcluster_operator.errors import LeadershipLost
from pushcluster_operator.kube import leader as leader_module
from pushcluster_operator.kube.leader import (
    DURATION_S,
    NAME,
    RENEW_DEADLINE_S,
    Claim,
    Leader,
    build_identity,
    build_lease,
    plan_claim,
)
from tests.unit.operator.fake_kube import FakeKube

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def held_by(holder: str) -> dict[str, Any]:
    return {"spec": {"holderIdentity": holder, "leaseDurationSeconds": DURATION_S}}


@pytest.mark.parametrize(
    ("lease", "unchanged_s", "claim"),
    [
        (None, 0.0, Claim.CREATE),
        (held_by("me"), 0.0, Claim.RENEW),
        (held_by(""), 0.0, Claim.TAKE),
        (held_by("other"), DURATION_S - 0.1, Claim.WAIT),
        (held_by("other"), DURATION_S, Claim.TAKE),
    ],
    ids=["no lease", "mine", "given back", "another's", "another's, unchanged for its duration"],
)
def test_a_candidate_claims_the_lease_only_when_the_rules_allow_it(
    lease: dict[str, Any] | None, unchanged_s: float, claim: Claim
) -> None:
    assert plan_claim(lease, "me", unchanged_s) is claim


@pytest.mark.parametrize(
    ("holder", "claim"),
    [
        (build_identity("operator-a", "2"), Claim.RENEW),
        (build_identity("operator-a", "1"), Claim.TAKE),
        (build_identity("operator-b", "2"), Claim.WAIT),
        (build_identity("a", "2"), Claim.WAIT),
        ("operator-a", Claim.WAIT),
    ],
)
def test_a_restarted_container_takes_the_lease_of_its_former_process_at_once(holder: str, claim: Claim) -> None:
    assert plan_claim(held_by(holder), build_identity("operator-a", "2"), 0.0) is claim


async def test_a_leader_does_not_take_the_lease_back_from_a_process_of_the_same_name() -> None:
    kube, clock = FakeKube(), Clock()
    first = Leader(kube, "ns", build_identity("operator-a", "1"), clock=clock)
    second = Leader(kube, "ns", build_identity("operator-a", "2"), clock=clock)
    await first.acquire()
    await asyncio.wait_for(second.acquire(), 2)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(first.keep(), 2)
    assert holder(kube) == second.identity


def test_an_identity_that_names_no_pod_has_no_former_process() -> None:
    assert plan_claim(held_by("other"), "me", 0.0) is Claim.WAIT


def test_a_lease_counts_how_often_it_changed_hands() -> None:
    first = build_lease(None, "ns", "a", Claim.CREATE, NOW)
    assert first["spec"]["leaseTransitions"] == 0
    first["metadata"]["resourceVersion"] = "1"
    renewed = build_lease(first, "ns", "a", Claim.RENEW, NOW)
    assert renewed["spec"]["leaseTransitions"] == 0
    assert build_lease(first, "ns", "b", Claim.TAKE, NOW)["spec"]["leaseTransitions"] == 1
    assert renewed["metadata"]["resourceVersion"] == "1"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_module, "RETRY_EVERY_S", 0.0)
    monkeypatch.setattr(leader_module, "RENEW_EVERY_S", 0.0)


def holder(kube: FakeKube) -> str:
    return str(kube.at("Lease", NAME)["spec"]["holderIdentity"])


async def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    kube, clock = FakeKube(), Clock()
    first, second = Leader(kube, "ns", "first", clock=clock), Leader(kube, "ns", "second", clock=clock)
    await first.acquire()
    await first.release()
    await asyncio.wait_for(second.acquire(), 2)
    assert holder(kube) == "second"


async def test_a_lease_of_a_process_that_was_killed_is_taken_after_its_duration_and_not_before() -> None:
    kube, clock = FakeKube(), Clock()
    await Leader(kube, "ns", "first", clock=clock).acquire()
    waiting = asyncio.create_task(Leader(kube, "ns", "second", clock=clock).acquire())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not waiting.done()
    clock.seconds = DURATION_S
    await asyncio.wait_for(waiting, 2)
    assert holder(kube) == "second"


async def test_a_leader_whose_lease_was_taken_stops() -> None:
    kube, clock = FakeKube(), Clock()
    leader = Leader(kube, "ns", "first", clock=clock)
    await leader.acquire()
    kube.edit("Lease", NAME, spec={"holderIdentity": "second"})
    with pytest.raises(LeadershipLost, match="second holds the Lease"):
        await asyncio.wait_for(leader.keep(), 2)


async def test_a_leader_that_cannot_renew_stops_before_another_may_take_over() -> None:
    kube, clock = FakeKube(), Clock()
    leader = Leader(kube, "ns", "first", clock=clock)
    await leader.acquire()
    kube.down = True
    keeping = asyncio.create_task(leader.keep())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not keeping.done()
    clock.seconds = RENEW_DEADLINE_S
    with pytest.raises(LeadershipLost, match="could not be renewed"):
        await asyncio.wait_for(keeping, 2)
    assert RENEW_DEADLINE_S < DURATION_S


async def test_a_lease_of_another_is_not_given_back() -> None:
    kube = FakeKube()
    await Leader(kube, "ns", "first").acquire()
    await Leader(kube, "ns", "second").release()
    assert holder(kube) == "first"
