"""A sweep: what it reads first, what it removes, and what it does when somebody does not answer."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from pushcluster_contract.errors import TooOld, Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_operator.kube.events import EventRecorder
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.metrics import Metrics
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from pushcluster_operator.status.redis_memory import RedisMemory
from pushcluster_operator.status.status import SessionCounts
from pushcluster_operator.status.sweep_report import CUT_OFF_S, PUSHES_SLOW_AFTER_S, SweepReport
from pushcluster_operator.sweep.registry import RegistrySnapshot
from pushcluster_operator.sweep.removals import NOT_READY_S, GatewayLease
from pushcluster_operator.sweep.sweeper import INTERVAL_S, Sweeper, SweptCluster
from tests.unit.operator.fake_kube import FakeKube
from tests.unit.operator.objects import NAME, NAMESPACE, body

KEY = (NAMESPACE, NAME)
ONE, TWO = Incarnation("pod-1", "1" * 16), Incarnation("pod-2", "2" * 16)
NOW_MS = 50_000
SLOW_MS = int(PUSHES_SLOW_AFTER_S * 1_000)


@dataclass(slots=True)
class FakeRegistry:
    """A registry in memory that writes down what it was asked, into the API server's record."""

    kube: FakeKube
    url: str = "redis://"
    leases: dict[Incarnation, int] = field(default_factory=dict)
    sessions: dict[Incarnation, int] = field(default_factory=dict)
    trouble: Unavailable | None = None
    append_only: bool = True
    memory: RedisMemory = field(default_factory=RedisMemory)
    run_id: str = "run-1"
    without_broker: dict[Incarnation, int] = field(default_factory=dict)
    forgotten: list[Incarnation] = field(default_factory=list)
    removed: list[Incarnation] = field(default_factory=list)

    async def close(self) -> None:
        pass

    async def read(self) -> RegistrySnapshot:
        self.kube.calls.append("read leases")
        if self.trouble is not None:
            raise self.trouble
        leases = tuple(GatewayLease(incarnation, expires) for incarnation, expires in self.leases.items())
        return RegistrySnapshot(leases, NOW_MS, self.append_only, self.memory, self.run_id, dict(self.without_broker))

    async def count_sessions(self, incarnations: list[Incarnation]) -> int:
        return sum(self.sessions.get(incarnation, 0) for incarnation in incarnations)

    async def forget_without_broker(self, incarnations: Sequence[Incarnation]) -> None:
        self.forgotten += incarnations

    async def remove(self, incarnation: Incarnation) -> int:
        self.removed.append(incarnation)
        self.leases.pop(incarnation, None)
        return self.sessions.pop(incarnation, 0)


@dataclass(slots=True)
class World:
    kube: FakeKube
    registry: FakeRegistry
    sweeper: Sweeper
    metrics: Metrics
    seconds: list[float]

    def pod(self, uid: str, *, ready: bool = True, labelled: bool = True) -> Manifest:
        labels = {"pushcluster.dev/cluster": NAME, "pushcluster.dev/component": "gateway"}
        return self.kube.put(
            {
                "kind": "Pod",
                "metadata": {"name": f"gateway-{uid}", "uid": uid, "labels": labels if labelled else {}},
                "status": {
                    "conditions": [{"type": "Ready", "status": str(ready)}],
                    "containerStatuses": [{"name": "gateway", "state": {"running": {}}}],
                },
            }
        )

    @property
    def counts(self) -> SessionCounts:
        return self.watched.counts

    @property
    def watched(self) -> SweptCluster:
        watched = self.sweeper.get(KEY)
        assert watched is not None
        return watched

    async def sweep_at(self, seconds: float) -> SweepReport:
        self.seconds[0] = seconds
        await self.sweeper.sweep(KEY)
        return self.watched.report(seconds)

    def metric(self, metric: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, labels)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    kube = FakeKube()
    registry = FakeRegistry(kube)
    monkeypatch.setattr("pushcluster_operator.sweep.sweeper.RegistryClient", lambda *_: registry)
    metrics, seconds = Metrics(CollectorRegistry()), [0.0]
    recorder = EventRecorder(kube, clock=lambda: seconds[0])
    sweeper = Sweeper(
        kube, recorder, metrics, clock=lambda: seconds[0], now=lambda: datetime.fromtimestamp(seconds[0], UTC)
    )
    await sweeper.watch(ClusterIdentity.from_body(body()), "redis://", SessionCounts(removed_total=10))
    yield World(kube, registry, sweeper, metrics, seconds)
    await sweeper.close()


async def test_the_leases_are_read_before_the_pods(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS + 1}
    world.pod("pod-1")
    await world.sweeper.sweep(KEY)
    assert [call.split()[0] for call in world.kube.calls] == ["read", "list"]


async def test_the_sessions_of_a_pod_that_is_gone_are_removed_counted_and_told(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS + 1, TWO: NOW_MS + 1}
    world.registry.sessions = {ONE: 3, TWO: 4}
    world.pod("pod-1")
    world.pod("pod-2")
    assert await world.sweeper.sweep(KEY) == INTERVAL_S
    assert world.counts.online == 7
    world.kube.remove("Pod", "gateway-pod-2")
    world.seconds[0] = 60
    await world.sweeper.sweep(KEY)
    assert world.registry.removed == [TWO]
    assert (world.counts.online, world.counts.removed_total) == (3, 14)
    assert world.counts.last_removal_time == world.counts.last_sweep_time == "1970-01-01T00:01:00Z"
    (event,) = world.kube.events
    assert event["reason"] == "StaleSessionsRemoved"
    assert event["message"] == "removed 4 stale sessions of gateway pod gateway-pod-2: the pod is gone"
    labels = {"namespace": NAMESPACE, "name": NAME, "cause": "pod_gone"}
    assert world.metric("pushcluster_sessions_removed_total", **labels) == 4


async def test_a_pod_whose_labels_were_edited_is_not_gone(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS + 1}
    world.pod("pod-1", labelled=False)
    await world.sweeper.sweep(KEY)
    assert world.registry.removed == []


async def test_a_failed_list_removes_nothing_and_is_reported(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS + 1}
    world.kube.down = True
    assert await world.sweeper.sweep(KEY) == INTERVAL_S
    assert world.registry.removed == []
    watched = world.sweeper.get(KEY)
    assert watched is not None
    assert "API server is down" in watched.last_error
    assert world.metric("pushcluster_operator_failed_sweeps_total") == 1


async def test_a_redis_that_is_down_is_asked_again_at_the_usual_time_until_it_answers(world: World) -> None:
    world.registry.trouble = Unavailable("Redis is down")
    for _ in range(5):
        assert await world.sweeper.sweep(KEY) == INTERVAL_S
    watched = world.sweeper.get(KEY)
    assert watched is not None
    assert watched.failing_since == 0.0
    world.registry.trouble = None
    await world.sweeper.sweep(KEY)
    assert watched.failing_since is None


async def test_what_redis_is_is_remembered_until_another_one_answers(world: World) -> None:
    watched = world.sweeper.get(KEY)
    assert watched is not None
    world.registry.trouble = TooOld("Redis 7.0.15 is too old")
    assert await world.sweeper.sweep(KEY) == INTERVAL_S
    world.registry.trouble = Unavailable("it restarts")
    await world.sweeper.sweep(KEY)
    assert str(watched.too_old) == "Redis 7.0.15 is too old"
    world.registry.trouble, world.registry.append_only = None, False
    await world.sweeper.sweep(KEY)
    assert watched.too_old is None
    assert not watched.append_only


async def test_a_full_redis_is_one_until_there_is_some_room_again(world: World) -> None:
    watched = world.sweeper.get(KEY)
    assert watched is not None
    seen = []
    for used in (979, 980, 901, 899, 979):
        world.registry.memory = RedisMemory(used, 1_000)
        await world.sweeper.sweep(KEY)
        seen.append(watched.full)
    assert seen == [False, True, True, False, False]
    world.registry.memory = RedisMemory(5_000, 0)
    await world.sweeper.sweep(KEY)
    assert not watched.full, "without a limit it is never full"


async def test_a_pod_that_is_not_ready_for_long_loses_its_expired_sessions(world: World) -> None:
    world.registry.leases, world.registry.sessions = {ONE: NOW_MS}, {ONE: 1}
    world.pod("pod-1", ready=False)
    await world.sweeper.sweep(KEY)
    world.seconds[0] = NOT_READY_S - 1
    await world.sweeper.sweep(KEY)
    assert world.registry.removed == []
    world.seconds[0] = NOT_READY_S
    await world.sweeper.sweep(KEY)
    assert world.registry.removed == [ONE]


async def test_without_any_lease_nobody_is_online(world: World) -> None:
    assert await world.sweep_at(0) == SweepReport()
    assert world.counts.online == 0


async def test_a_process_without_sessions_is_removed_without_an_event(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS + 1}
    await world.sweeper.sweep(KEY)
    assert world.registry.removed == [ONE]
    assert world.kube.events == []


async def test_an_unknown_pushcluster_is_not_swept(world: World) -> None:
    assert await world.sweeper.sweep(("other", "one")) is None


async def test_counts_outlive_a_changed_password_but_not_the_pushcluster(world: World) -> None:
    await world.sweeper.watch(ClusterIdentity.from_body(body()), "redis://:new@", SessionCounts())
    assert world.counts.removed_total == 10
    await world.sweeper.watch(ClusterIdentity.from_body(body(uid="another")), "redis://:new@", SessionCounts())
    assert world.counts.removed_total == 0


async def test_a_ready_gateway_that_no_longer_renews_is_removed_told_and_known_until_it_has_a_lease(
    world: World,
) -> None:
    world.registry.leases, world.registry.sessions = {ONE: NOW_MS, TWO: NOW_MS + 1}, {ONE: 3, TWO: 4}
    world.pod("pod-1")
    world.pod("pod-2")
    world.kube.put({"kind": "Pod", "metadata": {"name": "redis", "uid": "pod-9"}, "status": {}})
    assert await world.sweep_at(7) == SweepReport()
    assert await world.sweep_at(7 + CUT_OFF_S - 1) == SweepReport()
    assert world.registry.removed == []
    assert await world.sweep_at(7 + CUT_OFF_S) == SweepReport(cut_off=("gateway-pod-1",))
    assert world.registry.removed == [ONE]
    (event,) = world.kube.events
    assert event["message"] == (
        "removed 3 stale sessions of gateway pod gateway-pod-1: it has not renewed its lease for 60 s, although Redis "
        "answers"
    )
    labels = {"namespace": NAMESPACE, "name": NAME, "cause": "cut_off"}
    assert world.metric("pushcluster_sessions_removed_total", **labels) == 3
    world.registry.leases = {}
    assert (await world.sweep_at(70)).cut_off == ("gateway-pod-1",), "also when nobody holds a lease"
    world.registry.leases = {ONE: NOW_MS + 1}
    assert await world.sweep_at(73) == SweepReport()


async def test_a_failed_sweep_starts_the_time_of_a_silent_gateway_anew(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS}
    world.pod("pod-1")
    await world.sweep_at(1)
    world.registry.trouble = Unavailable("Redis is down")
    await world.sweep_at(30)
    world.registry.trouble = None
    await world.sweep_at(33)
    for seconds in (1 + CUT_OFF_S, 33 + CUT_OFF_S - 1):
        assert await world.sweep_at(seconds) == SweepReport(error="Redis is down")
    assert world.registry.removed == []
    assert (await world.sweep_at(33 + CUT_OFF_S)).cut_off == ("gateway-pod-1",)
    assert world.registry.removed == [ONE]


async def test_another_redis_starts_the_time_of_a_silent_gateway_anew(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS}
    world.pod("pod-1")
    await world.sweep_at(1)
    world.registry.run_id = "run-2"
    await world.sweep_at(31)
    assert await world.sweep_at(1 + CUT_OFF_S) == SweepReport()
    assert world.registry.removed == []
    assert (await world.sweep_at(31 + CUT_OFF_S)).cut_off == ("gateway-pod-1",)
    assert world.registry.removed == [ONE]
    world.registry.run_id = "run-3"
    assert (await world.sweep_at(94)).cut_off == ("gateway-pod-1",), "what is known stays known"


async def test_other_pods_of_the_namespace_are_not_gateways_that_are_cut_off(world: World) -> None:
    """When a pod is missing by its labels, all pods are listed."""
    world.registry.leases = {ONE: NOW_MS + 1, TWO: NOW_MS + 1}
    world.pod("pod-1")
    world.pod("pod-2", labelled=False)
    world.pod("pod-9", labelled=False)
    await world.sweep_at(1)
    assert await world.sweep_at(1 + CUT_OFF_S) == SweepReport()


async def test_gateways_that_say_they_have_no_rabbitmq_are_named(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS + 1, TWO: NOW_MS + 1}
    world.registry.without_broker = {TWO: NOW_MS - SLOW_MS - 1, ONE: NOW_MS - SLOW_MS - 2}
    world.pod("pod-1")
    world.pod("pod-2")
    assert await world.sweep_at(1) == SweepReport(without_broker=("gateway-pod-1", "gateway-pod-2"))
    assert world.registry.forgotten == []
    del world.registry.without_broker[ONE]
    assert await world.sweep_at(4) == SweepReport(without_broker=("gateway-pod-2",))


async def test_what_a_gateway_without_a_lease_said_is_forgotten(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS}
    world.registry.without_broker = {TWO: 1, ONE: 1}
    world.pod("pod-1")
    assert await world.sweep_at(1) == SweepReport()
    assert world.registry.forgotten == [TWO]


async def test_a_report_says_for_how_long_sweeps_have_failed_and_who_did_not_answer(world: World) -> None:
    world.registry.leases = {ONE: NOW_MS + 1}
    world.pod("pod-1")
    world.registry.trouble = Unavailable("Redis is down")
    await world.sweep_at(5)
    assert await world.sweep_at(8) == SweepReport(failing_s=3.0, redis_answers=False, error="Redis is down")
    world.registry.trouble, world.kube.down = None, True
    assert await world.sweep_at(11) == SweepReport(failing_s=6.0, error="the API server is down")
    world.kube.down = False
    assert await world.sweep_at(14) == SweepReport(error="the API server is down")
