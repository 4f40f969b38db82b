"""What a look says in the status, and what it leaves as it was."""

from pushcluster_operator.cluster import KIND
from pushcluster_operator.reconciler import RESYNC_S
from tests.unit.operator.objects import NAME, NAMESPACE
from tests.unit.operator.world import KEY, World


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


async def test_a_paused_cluster_is_swept_by_the_address_that_is_stored(world: World) -> None:
    await world.settle()
    url = world.secret("demo-connections")["redis-url"]
    world.spec({}, annotations={"pushcluster.dev/paused": "true"})
    world.kube.remove("Secret", "demo-redis")
    for _ in range(2):
        await world.look()
        watched = world.sweeper.get(KEY)
        assert watched is not None
        assert watched.registry.url == url


async def test_the_sweeper_learns_of_each_pushcluster_once(world: World) -> None:
    await world.look()
    await world.look()
    assert world.watched == [KEY]


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
