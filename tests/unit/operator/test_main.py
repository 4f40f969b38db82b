"""The operator's life: the Lease first, and one end for all parts."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import kopf
import pytest

from pushcluster_operator.controller.canary import WATCHES_DEAD_AFTER_S
from pushcluster_operator.errors import LeadershipLost, Unavailable
from pushcluster_operator.kube.leader import NAME as LEASE
from pushcluster_operator.kube.leader import Leader
from pushcluster_operator.main import STUCK_AFTER_S, Operator, _until
from pushcluster_operator.settings import Settings
from tests.support.waiting import eventually
from tests.unit.operator.fake_kube import FakeKube
from tests.unit.operator.objects import IMAGES, body

SETTINGS = Settings("system", "pod", (), "127.0.0.1", 0, IMAGES)


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def operator(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> Operator:
    async def watch_for_ever(**_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(kopf, "operator", watch_for_ever)
    return Operator(SETTINGS, kube)


def holder(kube: FakeKube) -> str:
    return str(kube.at("Lease", LEASE)["spec"]["holderIdentity"])


async def test_it_takes_the_lease_finds_pushclusters_by_itself_and_gives_the_lease_back(
    operator: Operator, kube: FakeKube
) -> None:
    kube.put(body())
    stop = asyncio.Event()
    running = asyncio.create_task(operator.run(stop))
    await eventually(lambda: "Created" in kube.reasons, 5)
    assert holder(kube).startswith("pod_")
    assert operator.readiness() == (True, "leading")
    stop.set()
    await asyncio.wait_for(running, 5)
    assert holder(kube) == ""


async def test_nothing_is_written_before_the_lease_is_held(operator: Operator, kube: FakeKube) -> None:
    kube.put(body())
    lease = {"kind": "Lease", "metadata": {"name": LEASE, "namespace": "system"}}
    kube.put({**lease, "spec": {"holderIdentity": "another", "leaseDurationSeconds": 15}})
    stop = asyncio.Event()
    running = asyncio.create_task(operator.run(stop))
    await eventually(lambda: f"get Lease {LEASE}" in kube.calls, 5)
    assert operator.readiness() == (True, "standing by")
    assert operator.is_healthy()
    stop.set()
    await asyncio.wait_for(running, 5)
    assert kube.writes == []
    assert holder(kube) == "another"


async def test_the_operators_namespace_is_watched_for_the_canary_and_its_pushclusters_are_left_alone(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: dict[str, Any] = {}

    async def watch(**options: Any) -> None:
        watched.update(options)

    monkeypatch.setattr(kopf, "operator", watch)
    operator = Operator(replace(SETTINGS, watch_namespaces=("team",)), kube)
    with pytest.raises(Unavailable):
        await operator._watch(asyncio.Event())
    assert set(watched["namespaces"]) == {"team", "system"}
    add = operator._add_to(operator._reconciles)
    await add(("system", "demo"))
    await add(("team", "demo"))
    assert list(operator._reconciles._due) == [("team", "demo")]


async def test_when_the_watches_end_the_process_ends(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch_not_at_all(**_: object) -> None:
        return

    monkeypatch.setattr(kopf, "operator", watch_not_at_all)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(operator.run(asyncio.Event()), 5)
    assert "kopf has stopped watching" in str(caught.value.exceptions)


async def test_when_the_lease_is_lost_the_process_ends(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(_: object) -> None:
        raise LeadershipLost("lost")

    monkeypatch.setattr(Leader, "keep", lose)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(operator.run(asyncio.Event()), 5)
    assert caught.value.subgroup(LeadershipLost) is not None


async def test_a_leader_whose_work_stands_still_is_not_healthy(operator: Operator) -> None:
    operator.leads = True
    assert operator.is_healthy()
    operator._sweeps.last_progress_s -= STUCK_AFTER_S + 1
    assert not operator.is_healthy()


async def test_a_leader_without_events_of_its_canary_is_not_healthy(operator: Operator) -> None:
    operator.leads = True
    operator._canary._unanswered_since = time.monotonic() - WATCHES_DEAD_AFTER_S
    assert not operator.is_healthy()


async def test_work_that_fails_is_not_mistaken_for_a_stop() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await _until(asyncio.Event(), fail())


async def test_a_stop_cancels_the_work() -> None:
    stop, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    stop.set()
    assert not await asyncio.wait_for(_until(stop, work()), 5)
    assert cancelled.is_set()
