"""One look at a PushCluster: what is written, what is left alone, and what the status says."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pushcluster_operator.cluster import KIND
from pushcluster_operator.errors import Unavailable
from pushcluster_operator.events import Recorder
from pushcluster_operator.manifest import Manifest, decode_data
from pushcluster_operator.metrics import Metrics
from pushcluster_operator.reconciler import RESYNC_S, Reconciler
from pushcluster_operator.sweeper import Key, Sweeper
from tests.unit.operator.fake_kube import FakeKube
from tests.unit.operator.objects import IMAGES, NAME, NAMESPACE, body

KEY = (NAMESPACE, NAME)


@dataclass(slots=True)
class World:
    """A reconciler over an API server in memory, with a clock that only moves when told."""

    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 1_000.0
    watched: list[Key] = field(default_factory=list)
    reconciler: Reconciler = field(init=False)
    sweeper: Sweeper = field(init=False)
    randomness: int = 0

    def __post_init__(self) -> None:
        metrics = Metrics(CollectorRegistry())
        recorder = Recorder(self.kube, now=self.now, clock=lambda: self.seconds)
        self.sweeper = Sweeper(self.kube, recorder, metrics, clock=lambda: self.seconds, now=self.now)

        async def on_watched(key: Key) -> None:
            self.watched.append(key)

        self.reconciler = Reconciler(
            self.kube, self.sweeper, recorder, metrics, IMAGES, on_watched,
            entropy=self.entropy, clock=lambda: self.seconds, now=self.now,
        )  # fmt: skip

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def entropy(self, size: int) -> bytes:
        self.randomness += 1
        return self.randomness.to_bytes(size)

    async def look(self) -> float | None:
        return await self.reconciler.reconcile(KEY)

    async def settle(self) -> None:
        """Look, let Kubernetes do its part, and look again until nothing is written any more."""
        for _ in range(4):
            await self.look()
            self.run_workloads()
        self.kube.writes.clear()
        self.kube.events.clear()

    def run_workloads(self) -> None:
        """Make every workload ready, as its controller would."""
        for key, item in list(self.kube.objects.items()):
            if key.kind in {"Deployment", "StatefulSet"}:
                number = item["spec"]["replicas"]
                status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), number)
                if item.get("status") != status:
                    self.kube.put({**item, "status": status})

    def spec(self, spec: dict[str, Any], **metadata: Any) -> None:
        former = self.kube.at(KIND, NAME) if self.kube.objects else {}
        self.kube.put({**body(spec, **metadata), "status": former.get("status", {})})

    def condition(self, type_: str) -> dict[str, Any]:
        conditions: list[dict[str, Any]] = self.kube.at(KIND, NAME)["status"]["conditions"]
        return next((each for each in conditions if each["type"] == type_), {})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.spec({})
    yield world
    await world.sweeper.close()


def secret(world: World, name: str) -> dict[str, str]:
    return decode_data(world.kube.at("Secret", name))


async def test_an_empty_spec_becomes_a_whole_cluster(world: World) -> None:
    assert await world.look() == RESYNC_S
    kinds = {str(key) for key in world.kube.objects}
    assert {"StatefulSet demo-rabbitmq", "StatefulSet demo-redis", "Deployment demo-gateway"} <= kinds
    assert {"Deployment demo-dispatcher", "PodDisruptionBudget demo-gateway", "Secret demo-jwt"} <= kinds
    assert world.condition("Ready")["reason"] == "RabbitMQNotReady"
    assert world.condition("Progressing")["status"] == "True"
    assert world.kube.reasons == ["Created"]


async def test_producers_get_their_credentials_only_after_a_dispatcher_is_ready(world: World) -> None:
    await world.look()
    assert "Secret demo-producer" not in {str(key) for key in world.kube.objects}
    world.run_workloads()
    await world.look()
    assert secret(world, "demo-producer")["username"] == "producer"


async def test_credentials_once_released_are_kept_right_while_no_dispatcher_is_ready(world: World) -> None:
    await world.settle()
    before = secret(world, "demo-producer")
    world.kube.edit("Deployment", "demo-dispatcher", status={"readyReplicas": 0})
    world.kube.edit("Secret", "demo-producer", data={"host": "ZWRpdGVk"})
    await world.look()
    assert secret(world, "demo-producer") == before


async def test_a_cluster_whose_workloads_are_ready_is_ready_at_its_generation(world: World) -> None:
    await world.settle()
    await world.look()
    ready = world.condition("Ready")
    assert (ready["status"], ready["observedGeneration"]) == ("True", 3)
    status = world.kube.at(KIND, NAME)["status"]
    assert status["gateway"] == {
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "pushcluster.dev/cluster=demo,pushcluster.dev/component=gateway",
        "summary": "2/2",
    }


async def test_at_rest_nothing_is_written(world: World) -> None:
    await world.settle()
    for _ in range(3):
        world.seconds += 60
        await world.look()
    assert world.kube.writes == []
    assert world.kube.events == []


async def test_a_new_operator_writes_nothing_to_a_cluster_at_rest(world: World) -> None:
    await world.settle()
    successor = World(kube=world.kube, randomness=500)
    await successor.look()
    assert world.kube.writes == []
    await successor.sweeper.close()


async def test_secrets_are_read_back_and_never_made_anew(world: World) -> None:
    await world.settle()
    before = {name: secret(world, name) for name in ("demo-rabbitmq", "demo-redis", "demo-jwt", "demo-api")}
    world.spec({"gateway": {"replicas": 3}}, generation=4)
    await world.look()
    assert {name: secret(world, name) for name in before} == before


async def test_a_deleted_secret_is_made_anew_and_everything_that_read_it_rolls(world: World) -> None:
    await world.settle()
    checksum = _checksum(world.kube.at("Deployment", "demo-gateway"))
    world.kube.remove("Secret", "demo-redis")
    await world.look()
    assert secret(world, "demo-redis")["password"] in secret(world, "demo-connections")["redis-url"]
    assert _checksum(world.kube.at("Deployment", "demo-gateway")) != checksum


@pytest.mark.parametrize("name", ["Service demo-gateway", "ConfigMap demo-rabbitmq", "Deployment demo-dispatcher"])
async def test_a_deleted_child_comes_back_and_that_is_told(world: World, name: str) -> None:
    await world.settle()
    world.kube.remove(*name.split())
    await world.look()
    assert f"apply {name}" in world.kube.writes
    assert "ChildRestored" in world.kube.reasons
    assert f"{name} was deleted" in world.kube.events[0]["message"]


async def test_an_edited_child_is_put_right_and_that_is_told(world: World) -> None:
    await world.settle()
    world.kube.edit("Deployment", "demo-gateway", spec={"replicas": 7})
    await world.look()
    assert world.kube.at("Deployment", "demo-gateway")["spec"]["replicas"] == 2
    assert world.kube.reasons == ["ChildRestored"]


async def test_a_child_without_its_labels_is_found_by_its_name(world: World) -> None:
    await world.settle()
    world.kube.edit("StatefulSet", "demo-redis", metadata={"labels": {"pushcluster.dev/cluster": "x"}})
    await world.look()
    assert world.kube.at("StatefulSet", "demo-redis")["metadata"]["labels"]["pushcluster.dev/cluster"] == NAME


async def test_an_entry_that_somebody_put_into_a_list_of_ours_is_taken_out(world: World) -> None:
    await world.settle()
    service = world.kube.at("Service", "demo-gateway")
    ports = [*service["spec"]["ports"], {"name": "more", "port": 99}]
    world.kube.put({**service, "spec": {**service["spec"], "ports": ports}})
    await world.look()
    assert [port["name"] for port in world.kube.at("Service", "demo-gateway")["spec"]["ports"]] == ["ws"]


async def test_a_restart_annotation_of_somebody_else_stays(world: World) -> None:
    await world.settle()
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
    world.kube.edit("Deployment", "demo-gateway", spec={"template": template})
    await world.look()
    assert world.kube.writes == []


async def test_a_budget_for_one_replica_is_taken_away(world: World) -> None:
    await world.settle()
    world.spec({"gateway": {"replicas": 1}}, generation=4)
    await world.look()
    assert "delete PodDisruptionBudget demo-gateway" in world.kube.writes


async def test_a_name_that_is_taken_is_left_alone_and_named(world: World) -> None:
    stranger = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo-gateway", "namespace": NAMESPACE},
        "spec": {"ports": []},
    }
    world.kube.put(stranger)
    assert await world.look() == RESYNC_S
    assert world.kube.at("Service", "demo-gateway")["spec"] == {"ports": []}
    assert world.condition("Ready")["reason"] == "NameTaken"
    assert "Service demo-gateway exists and does not belong" in world.condition("Degraded")["message"]


@pytest.mark.parametrize("name", ["rabbitmq", "redis", "jwt", "api", "connections"])
async def test_no_child_is_built_from_a_value_that_a_foreign_secret_does_not_hold(world: World, name: str) -> None:
    foreign = {"kind": "Secret", "metadata": {"name": f"demo-{name}", "namespace": NAMESPACE}, "data": {"x": "eA=="}}
    world.kube.put(foreign)
    await world.look()
    world.kube.writes.clear()
    assert await world.look() == RESYNC_S
    assert world.kube.writes == []
    assert world.kube.at("Secret", f"demo-{name}")["data"] == {"x": "eA=="}
    reader = "dispatcher" if name == "api" else "gateway"
    assert f"Deployment demo-{reader}" not in {str(key) for key in world.kube.objects}
    assert f"Secret demo-{name} cannot be stored" in world.condition("Degraded")["message"]


async def test_a_foreign_secret_that_holds_the_key_is_used(world: World) -> None:
    foreign = {"kind": "Secret", "metadata": {"name": "demo-jwt", "namespace": NAMESPACE}}
    world.kube.put({**foreign, "data": {"hs256.key": "YWFh" * 12}})
    await world.look()
    assert "Deployment demo-gateway" in {str(key) for key in world.kube.objects}
    world.kube.writes.clear()
    await world.look()
    assert world.kube.writes == []


async def test_refused_secrets_change_nothing_that_depends_on_them(world: World) -> None:
    await world.settle()
    for name in ("rabbitmq", "redis", "jwt", "api"):
        world.kube.remove("Secret", f"demo-{name}")
    world.kube.refuses.add("Secret")
    await world.look()
    assert world.kube.writes == [f"status {KIND} {NAME}"]
    world.kube.writes.clear()
    await world.look()
    assert world.kube.writes == []
    assert world.condition("Degraded")["reason"] == "ChildRefused"
    assert "what depends on it waits" in world.condition("Degraded")["message"]
    world.kube.refuses.clear()
    await world.settle()
    await world.look()
    assert world.condition("Ready")["status"] == "True"


async def test_a_paused_cluster_is_swept_by_the_address_that_is_stored(world: World) -> None:
    await world.settle()
    url = secret(world, "demo-connections")["redis-url"]
    world.spec({}, annotations={"pushcluster.dev/paused": "true"})
    world.kube.remove("Secret", "demo-redis")
    for _ in range(2):
        await world.look()
        watched = world.sweeper.get(KEY)
        assert watched is not None
        assert watched.registry.url == url


async def test_a_conflict_that_lasts_is_looked_at_ever_less_often(world: World) -> None:
    world.kube.conflicts.add("Service")
    assert [await world.look() for _ in range(5)] == [1, 2, 4, 8, RESYNC_S]
    world.kube.conflicts.clear()
    assert await world.look() == RESYNC_S
    world.kube.conflicts.add("Service")
    world.kube.remove("Service", "demo-gateway")
    assert await world.look() == 1


async def test_a_secret_that_appears_after_the_look_is_not_overwritten(world: World) -> None:
    foreign = {"kind": "Secret", "metadata": {"name": "demo-jwt", "namespace": NAMESPACE}, "data": {"x": "eA=="}}
    look_it_up = world.kube.get

    async def get(kind: str, namespace: str, name: str) -> Manifest | None:
        found = await look_it_up(kind, namespace, name)
        if name == "demo-jwt" and found is None:
            world.kube.put(foreign)
        return found

    world.kube.get = get  # type: ignore[method-assign]
    assert await world.look() == 1
    assert await world.look() == RESYNC_S
    assert world.kube.at("Secret", "demo-jwt")["data"] == {"x": "eA=="}
    assert world.condition("Degraded")["reason"] == "NameTaken"


async def test_an_invalid_spec_leaves_what_runs_as_it_was(world: World) -> None:
    await world.settle()
    too_much = {"requests": {"memory": "9Gi"}}
    world.spec({"gateway": {"replicas": 9, "resources": too_much}}, generation=4)
    await world.look()
    assert world.kube.writes == [f"status {KIND} {NAME}"]
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("False", "InvalidSpec", 4)
    assert "requests.memory (9Gi) is more than limits.memory" in ready["message"]
    assert world.kube.reasons == ["InvalidSpec"]
    assert world.kube.at(KIND, NAME)["status"]["gateway"]["summary"] == "2/2"
    assert world.sweeper.get(KEY) is not None


async def test_a_corrected_spec_heals(world: World) -> None:
    await world.settle()
    world.spec({"gateway": {"resources": {"requests": {"memory": "9Gi"}}}}, generation=4)
    await world.look()
    world.spec({}, generation=5)
    await world.look()
    assert world.condition("Ready")["status"] == "True"
    assert world.kube.reasons[-1] == "Ready"


async def test_a_paused_cluster_is_left_alone_but_still_swept_and_reported(world: World) -> None:
    await world.settle()
    world.spec({"gateway": {"replicas": 9}}, generation=4, annotations={"pushcluster.dev/paused": "true"})
    await world.look()
    assert world.kube.at("Deployment", "demo-gateway")["spec"]["replicas"] == 2
    assert world.condition("Progressing")["reason"] == "Paused"
    assert world.sweeper.get(KEY) is not None


async def test_a_kind_that_the_api_server_refuses_does_not_keep_the_others_from_being_made(world: World) -> None:
    world.kube.refuses.add("PodDisruptionBudget")
    await world.look()
    assert "Deployment demo-dispatcher" in {str(key) for key in world.kube.objects}
    assert world.condition("Degraded")["reason"] == "ChildRefused"
    assert "PodDisruptionBudget demo-gateway is refused" in world.condition("Ready")["message"]


async def test_nothing_is_concluded_from_an_api_server_that_does_not_answer(world: World) -> None:
    await world.settle()
    world.kube.down = True
    with pytest.raises(Unavailable):
        await world.look()
    assert world.kube.writes == []


@pytest.mark.parametrize("deletion", ["gone", "in the foreground"])
async def test_no_child_of_a_deleted_pushcluster_is_made_again(world: World, deletion: str) -> None:
    await world.settle()
    if deletion == "gone":
        world.kube.remove(KIND, NAME)
    else:
        world.spec({}, deletionTimestamp="2026-01-01T00:00:00Z")
    world.kube.remove("Service", "demo-gateway")
    assert await world.look() is None
    assert world.kube.writes == []
    assert world.sweeper.get(KEY) is None


async def test_the_sweeper_learns_of_each_pushcluster_once(world: World) -> None:
    await world.look()
    await world.look()
    assert world.watched == [KEY]


async def test_a_missing_key_of_the_author_is_named(world: World) -> None:
    world.spec({"gateway": {"auth": {"secretRef": {"name": "mine"}}}})
    await world.look()
    assert world.condition("Ready")["reason"] == "SecretMissing"
    assert "Secret mine does not exist" in world.condition("Degraded")["message"]


async def test_a_changed_key_of_the_author_rolls_the_gateways(world: World) -> None:
    def key(text: str) -> Manifest:
        data = {"hs256.key": "YWFh" * text.count("x")}
        return {"kind": "Secret", "metadata": {"name": "mine", "namespace": NAMESPACE}, "data": data}

    world.kube.put(key("x" * 20))
    world.spec({"gateway": {"auth": {"secretRef": {"name": "mine"}}}})
    await world.settle()
    checksum = _checksum(world.kube.at("Deployment", "demo-gateway"))
    dispatcher = _checksum(world.kube.at("Deployment", "demo-dispatcher"))
    world.kube.put(key("x" * 21))
    await world.look()
    assert _checksum(world.kube.at("Deployment", "demo-gateway")) != checksum
    assert _checksum(world.kube.at("Deployment", "demo-dispatcher")) == dispatcher


async def test_trusted_clients_are_warned_of(world: World) -> None:
    world.spec({"gateway": {"auth": {"mode": "Trusted"}}})
    await world.look()
    assert world.condition("AuthTrusted")["status"] == "True"
    world.spec({}, generation=4)
    await world.look()
    assert world.condition("AuthTrusted") == {}


async def test_counts_survive_a_new_operator(world: World) -> None:
    world.kube.edit(KIND, NAME, status={"sessions": {"removedTotal": 41, "lastRemovalTime": "2026-01-01T00:00:00Z"}})
    await world.look()
    assert world.kube.at(KIND, NAME)["status"]["sessions"] == {
        "removedTotal": 41,
        "lastRemovalTime": "2026-01-01T00:00:00Z",
    }


def _checksum(workload: Manifest) -> str:
    return str(workload["spec"]["template"]["metadata"]["annotations"]["pushcluster.dev/config-checksum"])
