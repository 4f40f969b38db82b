"""For how long a process leads, on a clock that the test moves: always shorter than others wait."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from pushcluster_operator.errors import Conflict, LeadershipLost, Refused, Unavailable
from pushcluster_operator.kube.leader import (
    DURATION_S,
    NAME,
    RENEW_DEADLINE_S,
    RENEW_EVERY_S,
    RETRY_EVERY_S,
    Claim,
    Leader,
    build_lease,
    plan_claim,
)
from pushcluster_operator.kube.manifest import Manifest
from tests.support.clock import MovedClock, moved_clock
from tests.unit.operator.fake_kube import FakeKube

WHEN = datetime(2026, 1, 1, 13, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))
"""12:00 UTC."""
WHEN_TEXT = "2026-01-01T12:00:00.250000Z"


class SlowKube(FakeKube):
    """An API server that may take its time, or fail in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.write_s = 0.0
        self.hangs = False
        self.fails: Exception | None = None

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        assert namespace == "ns"
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        return await super().get(kind, namespace, name)

    async def create(self, manifest: Manifest) -> Manifest:
        assert manifest["metadata"]["namespace"] == "ns"
        written = await super().create(manifest)
        await asyncio.sleep(self.write_s)
        return written

    async def replace(self, manifest: Manifest) -> Manifest:
        assert manifest["metadata"]["namespace"] == "ns"
        return await super().replace(manifest)

    @property
    def lease(self) -> dict[str, Any]:
        return dict(self.at("Lease", NAME)["spec"])


@pytest.fixture
async def clock() -> AsyncIterator[MovedClock]:
    with moved_clock() as held:
        yield held


async def pass_(clock: MovedClock, seconds: float) -> None:
    await clock.move(0)
    for _ in range(round(seconds * 2)):
        await clock.move(0.5)


def candidate(kube: FakeKube, clock: MovedClock, identity: str = "me") -> Leader:
    return Leader(kube, "ns", identity, clock=lambda: clock.now, now=lambda: WHEN)


def ended(task: "asyncio.Task[None]") -> str:
    """Return why a leader stopped; nothing while it leads."""
    return str(task.exception()) if task.done() else ""


@pytest.mark.parametrize(
    ("claim", "acquired", "transitions"),
    [(Claim.TAKE, WHEN_TEXT, 8), (Claim.RENEW, "earlier", 7)],
)
def test_what_a_claim_writes(claim: Claim, acquired: str, transitions: int) -> None:
    spec = {"holderIdentity": "x", "acquireTime": "earlier", "leaseTransitions": 7, "strategy": "kept"}
    lease = {"metadata": {"resourceVersion": "12", "name": NAME}, "spec": spec}
    assert build_lease(lease, "ns", "me", claim, WHEN) == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": "ns", "resourceVersion": "12"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": DURATION_S,
            "renewTime": WHEN_TEXT,
            "acquireTime": acquired,
            "leaseTransitions": transitions,
            "strategy": "kept",
        },
    }
    assert spec["leaseTransitions"] == 7, "what was read stays as it was"


def test_the_first_lease_is_a_whole_one() -> None:
    assert build_lease(None, "ns", "me", Claim.CREATE, WHEN) == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": "ns"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": DURATION_S,
            "renewTime": WHEN_TEXT,
            "acquireTime": WHEN_TEXT,
            "leaseTransitions": 0,
        },
    }


@pytest.mark.parametrize(
    ("spec", "unchanged_s", "claim"),
    [
        (None, 0, Claim.TAKE),
        ({"holderIdentity": None}, 0, Claim.TAKE),
        ({"holderIdentity": "other"}, DURATION_S - 1, Claim.WAIT),
        ({"holderIdentity": "other"}, DURATION_S, Claim.TAKE),
        ({"holderIdentity": "other", "leaseDurationSeconds": 40}, DURATION_S, Claim.WAIT),
        ({"holderIdentity": "other", "leaseDurationSeconds": 1}, 1, Claim.TAKE),
        ({"holderIdentity": "me", "leaseDurationSeconds": 1}, 99, Claim.RENEW),
    ],
)
def test_the_lease_itself_says_how_long_it_has_to_stay_unchanged(
    spec: dict[str, Any] | None, unchanged_s: float, claim: Claim
) -> None:
    assert plan_claim({"spec": spec}, "me", unchanged_s) is claim


async def test_leading_is_reckoned_from_before_the_request_that_others_may_have_seen_at_once(clock: MovedClock) -> None:
    kube = SlowKube()
    kube.write_s = 4.0
    leader = candidate(kube, clock)
    acquiring = asyncio.create_task(leader.acquire())
    await pass_(clock, 4)
    assert acquiring.done()
    kube.down = True
    keeping = asyncio.create_task(leader.keep())
    await pass_(clock, RENEW_DEADLINE_S - 4 + RENEW_EVERY_S)
    assert "could not be renewed in time" in ended(keeping)


async def test_a_leader_renews_and_goes_on_leading(clock: MovedClock) -> None:
    kube = SlowKube()
    leader = candidate(kube, clock)
    await leader.acquire()
    keeping = asyncio.create_task(leader.keep())
    kube.calls.clear()
    await pass_(clock, 60)
    assert kube.calls.count(f"replace Lease {NAME}") == 60 / RENEW_EVERY_S
    assert not keeping.done()
    assert (kube.lease["holderIdentity"], kube.lease["leaseTransitions"]) == ("me", 0)
    keeping.cancel()


async def test_a_request_that_never_ends_is_given_up_when_others_may_soon_take_over(clock: MovedClock) -> None:
    kube = SlowKube()
    leader = candidate(kube, clock)
    await leader.acquire()
    keeping = asyncio.create_task(leader.keep())
    kube.hangs = True
    await pass_(clock, RENEW_DEADLINE_S - 0.5)
    assert not keeping.done()
    await pass_(clock, 0.5)
    assert "could not be renewed in time" in ended(keeping)


async def test_a_request_shortly_before_others_may_take_over_has_only_what_is_left(clock: MovedClock) -> None:
    kube = SlowKube()
    kube.write_s = 3.5
    leader = candidate(kube, clock)
    acquiring = asyncio.create_task(leader.acquire())
    await pass_(clock, kube.write_s)
    assert acquiring.done()
    keeping = asyncio.create_task(leader.keep())
    kube.fails = Unavailable("down")
    await pass_(clock, RENEW_EVERY_S)
    kube.fails, kube.hangs = None, True
    await pass_(clock, RENEW_EVERY_S)
    assert not keeping.done(), "half a second is left"
    await pass_(clock, RENEW_DEADLINE_S - kube.write_s - 2 * RENEW_EVERY_S)
    assert "could not be renewed in time" in ended(keeping)


@pytest.mark.parametrize("error", [Conflict("x"), Refused("x"), Unavailable("x")], ids=lambda e: type(e).__name__)
async def test_one_renewal_that_fails_is_made_good_by_the_next(clock: MovedClock, error: Exception) -> None:
    kube = SlowKube()
    leader = candidate(kube, clock)
    await leader.acquire()
    keeping = asyncio.create_task(leader.keep())
    kube.fails = error
    await pass_(clock, RENEW_DEADLINE_S - RENEW_EVERY_S)
    kube.fails = None
    await pass_(clock, 60)
    assert not keeping.done()
    keeping.cancel()


@pytest.mark.parametrize("error", [Conflict("x"), Refused("x"), Unavailable("x")], ids=lambda e: type(e).__name__)
async def test_a_candidate_goes_on_asking_while_the_api_server_fails(clock: MovedClock, error: Exception) -> None:
    kube = SlowKube()
    kube.fails = error
    acquiring = asyncio.create_task(candidate(kube, clock).acquire())
    await pass_(clock, RETRY_EVERY_S * 5)
    assert not acquiring.done()
    kube.fails = None
    await pass_(clock, RETRY_EVERY_S)
    assert acquiring.done()
    assert kube.lease["holderIdentity"] == "me"


async def test_a_lease_that_its_holder_renews_is_never_taken(clock: MovedClock) -> None:
    kube = SlowKube()
    first = candidate(kube, clock, "first")
    await first.acquire()
    waiting = asyncio.create_task(candidate(kube, clock, "second").acquire())
    keeping = asyncio.create_task(first.keep())
    await pass_(clock, DURATION_S * 4)
    assert not waiting.done()
    keeping.cancel()
    await pass_(clock, DURATION_S - RENEW_EVERY_S)
    assert not waiting.done(), "others wait for its whole duration"
    await pass_(clock, RENEW_EVERY_S + RETRY_EVERY_S)
    assert waiting.done()
    assert (kube.lease["holderIdentity"], kube.lease["leaseTransitions"]) == ("second", 1)


async def test_a_process_that_stands_by_says_once_who_leads(
    clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kube = SlowKube()
    kube.put(build_lease(None, "ns", "first", Claim.CREATE, WHEN))
    waiting = asyncio.create_task(candidate(kube, clock).acquire())
    await pass_(clock, RETRY_EVERY_S * 2)
    kube.edit("Lease", NAME, spec={"holderIdentity": "second"})
    await pass_(clock, RETRY_EVERY_S * 2)
    waiting.cancel()
    assert [record.__dict__["holder"] for record in caplog.records] == ["first", "second"]


async def test_a_lease_without_a_spec_is_nobodys(clock: MovedClock) -> None:
    kube = SlowKube()
    empty: Manifest = {"kind": "Lease", "metadata": {"name": NAME, "namespace": "ns"}, "spec": None}
    kube.put(empty)
    leader = candidate(kube, clock)
    await leader.release()
    assert kube.at("Lease", NAME)["spec"] is None
    await leader.acquire()
    assert (kube.lease["holderIdentity"], kube.lease["leaseTransitions"]) == ("me", 0)


async def test_a_lease_that_is_given_back_names_nobody_and_expires_at_once(clock: MovedClock) -> None:
    kube = SlowKube()
    leader = candidate(kube, clock)
    await leader.acquire()
    await leader.release()
    assert (kube.lease["holderIdentity"], kube.lease["leaseDurationSeconds"]) == ("", 1)
    assert kube.lease["leaseTransitions"] == 0, "nobody else has taken it yet"
    assert kube.lease["renewTime"] == WHEN.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize("error", [Conflict("x"), Refused("x"), Unavailable("x")], ids=lambda e: type(e).__name__)
async def test_a_lease_that_cannot_be_given_back_stops_nobody_from_ending(clock: MovedClock, error: Exception) -> None:
    kube = SlowKube()
    leader = candidate(kube, clock)
    await leader.acquire()
    kube.fails = error
    await leader.release()
    assert kube.lease["holderIdentity"] == "me"


async def test_without_any_lease_there_is_nothing_to_give_back(clock: MovedClock) -> None:
    kube = SlowKube()
    await candidate(kube, clock).release()
    assert kube.objects == {}


async def test_a_lease_that_another_holds_ends_the_leading_and_says_who(clock: MovedClock) -> None:
    kube = SlowKube()
    leader = candidate(kube, clock)
    await leader.acquire()
    kube.edit("Lease", NAME, spec={"holderIdentity": "thief"})
    keeping = asyncio.create_task(leader.keep())
    await pass_(clock, RENEW_EVERY_S)
    assert isinstance(keeping.exception(), LeadershipLost)
    assert "thief" in ended(keeping)
