"""What a look says in the status, and what it leaves as it was."""

from pushcluster_contract.errors import TooOld
from pushcluster_contract.ids import Incarnation
from pushcluster_operator.controller.reconciler import RESYNC_S
from pushcluster_operator.spec.pushcluster import KIND
from pushcluster_operator.status.sweep_report import SWEEP_FAILING_S
from pushcluster_operator.sweep.reachability import WithoutLease
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


async def test_an_operator_older_than_the_definition_goes_on_and_names_unknown_fields(
    world: World,
) -> None:
    world.spec({"gateway": {"replicas": 3, "newer": True}}, generation=2)
    await world.look()
    assert world.kube.at("Deployment", "demo-gateway")["spec"]["replicas"] == 3
    unknown = world.condition("FieldsUnknown")
    assert (unknown["status"], unknown["reason"]) == ("True", "OperatorTooOld")
    assert unknown["message"].endswith("ignores these fields: spec.gateway.newer. Upgrade the operator")
    world.spec({"gateway": {"replicas": 3}}, generation=3)
    await world.look()
    assert world.condition("FieldsUnknown") == {}


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


async def test_the_author_is_warned_if_tokens_for_other_services_are_accepted(world: World) -> None:
    auth = {"algorithm": "RS256", "jwks": {"url": "https://issuer.example/jwks.json"}}
    world.spec({"gateway": {"auth": auth}})
    await world.look()
    assert world.condition("AudiencesUnchecked")["status"] == "True"
    world.spec({"gateway": {"auth": {**auth, "audiences": ["push"]}}}, generation=4)
    await world.look()
    assert world.condition("AudiencesUnchecked") == {}


async def test_counts_survive_a_new_operator(world: World) -> None:
    world.kube.edit(KIND, NAME, status={"sessions": {"removedTotal": 41, "lastRemovalTime": "2026-01-01T00:00:00Z"}})
    await world.look()
    assert world.kube.at(KIND, NAME)["status"]["sessions"] == {
        "removedTotal": 41,
        "lastRemovalTime": "2026-01-01T00:00:00Z",
    }


async def test_an_old_kubernetes_is_refused_and_what_runs_is_left_as_it_was(world: World) -> None:
    await world.settle()
    world.kube.version = "v1.29.3"
    world.seconds += 100
    world.spec({"gateway": {"replicas": 9}}, generation=4)
    await world.look()
    assert world.kube.writes == [f"status {KIND} {NAME}"]
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("False", "KubernetesTooOld", 4)
    assert (
        "Kubernetes v1.29.3 is too old: 1.30 or newer is needed. The operator leaves what runs as it is"
        in ready["message"]
    )
    assert world.sweeper.get(KEY) is not None
    world.kube.version = "v1.30.1"
    world.seconds += 100
    await world.settle()
    assert world.kube.at("Deployment", "demo-gateway")["spec"]["replicas"] == 9


async def test_an_old_rabbitmq_makes_the_cluster_unready_and_says_what_to_do(world: World) -> None:
    world.rabbitmq_trouble = TooOld("RabbitMQ 4.2.9 is too old: 4.3 or newer is needed")
    await world.settle()
    assert world.rabbitmq_asked == []
    world.pod("rabbitmq", "containerd://1")
    await world.look()
    assert world.rabbitmq_asked == [secret_url(world, "amqp-url")]
    part = world.condition("RabbitMQReady")
    assert (part["status"], part["reason"]) == ("False", "RabbitMQTooOld")
    assert "Name a newer image in spec.rabbitmq.managed.image" in part["message"]
    assert world.condition("Ready")["reason"] == world.condition("Degraded")["reason"] == "RabbitMQTooOld"
    world.rabbitmq_trouble = None
    world.pod("rabbitmq", "containerd://2")
    await world.look()
    assert world.condition("Ready")["status"] == "True"


async def test_an_old_redis_makes_the_cluster_unready_at_once(world: World) -> None:
    await world.settle()
    watched = world.sweeper.get(KEY)
    assert watched is not None
    watched.failing_since, watched.too_old = 0.0, TooOld("Redis 7.0.15 is too old: 7.2 or newer is needed")
    await world.look()
    part = world.condition("RedisReady")
    assert (part["status"], part["reason"]) == ("False", "RedisTooOld")
    assert "Redis 7.0.15 is too old" in part["message"]
    assert "sweep" not in world.condition("Degraded")["message"].lower(), "one cause is one trouble"
    watched.failing_since = watched.too_old = None
    await world.look()
    assert world.condition("Ready")["status"] == "True"


async def test_a_redis_without_a_file_is_warned_of_and_stays_ready(world: World) -> None:
    await world.settle()
    watched = world.sweeper.get(KEY)
    assert watched is not None
    watched.append_only = False
    await world.look()
    assert world.condition("DurabilityReduced")["reason"] == "NoAppendOnlyFile"
    assert world.condition("Ready")["status"] == "True"
    watched.append_only = True
    await world.look()
    assert world.condition("DurabilityReduced") == {}


async def test_a_full_redis_makes_the_cluster_degraded_while_its_own_condition_stays_ready(world: World) -> None:
    await world.settle()
    watched = world.sweeper.get(KEY)
    assert watched is not None
    watched.full = True
    await world.look()
    degraded = world.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "RedisFull")
    assert "wait in the ingress queues" in degraded["message"]
    assert "maxMemory" in degraded["message"]
    assert world.condition("RedisReady")["status"] == "True"
    assert world.condition("Ready")["reason"] == "RedisFull"
    assert [event["reason"] for event in world.kube.events] == ["RedisFull"]
    world.kube.writes.clear()
    await world.look()
    assert not world.kube.writes, "what does not change is not written"
    watched.full = False
    await world.look()
    assert world.condition("Ready")["status"] == "True"


async def test_while_redis_is_away_degraded_says_it_and_the_gateways_stay_ready(world: World) -> None:
    await world.settle()
    watched = world.sweeper.get(KEY)
    assert watched is not None
    watched.failing_since, watched.redis_answers = world.seconds, False
    world.kube.edit("StatefulSet", "demo-redis", status={"readyReplicas": 0})
    world.seconds += SWEEP_FAILING_S - 1
    await world.look()
    assert (world.condition("Degraded")["status"], world.condition("Ready")["reason"]) == ("False", "RedisNotReady")
    world.seconds += 1
    await world.look()
    degraded = world.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "RedisAway")
    assert "clients cannot connect" in degraded["message"]
    assert world.condition("GatewaysReady")["message"] == "gateways: 2 of 2 ready"
    world.run_workloads()
    watched.failing_since, watched.redis_answers = None, True
    await world.look()
    assert world.condition("Ready")["status"] == "True"


async def test_gateways_without_rabbitmq_make_the_cluster_degraded_until_they_have_it_again(world: World) -> None:
    await world.settle()
    watched = world.sweeper.get(KEY)
    assert watched is not None
    watched.without_broker = (Incarnation("pod-1", "1" * 16),)
    watched.pod_names = {"pod-1": "demo-gateway-1"}
    world.kube.edit("StatefulSet", "demo-rabbitmq", status={"readyReplicas": 0})
    await world.look()
    degraded = world.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "PushesSlow")
    assert degraded["message"].startswith("gateway pod demo-gateway-1 has had no connection to RabbitMQ")
    assert "RabbitMQ is not ready" in degraded["message"]
    world.run_workloads()
    await world.look()
    assert "RabbitMQ is ready" in world.condition("Degraded")["message"]
    assert [event["reason"] for event in world.kube.events] == ["PushesSlow"]
    watched.without_broker = ()
    await world.look()
    assert world.condition("Ready")["status"] == "True"


async def test_a_gateway_that_is_cut_off_is_named_by_what_is_known_of_it(world: World) -> None:
    await world.settle()
    watched = world.sweeper.get(KEY)
    assert watched is not None
    watched.without_lease = {
        "pod-1": WithoutLease(1.0, cut_off=True),
        "pod-2": WithoutLease(1.0, cut_off=False),
    }
    await world.look()
    assert world.condition("Degraded")["reason"] == "GatewayCutOff"
    assert world.condition("Degraded")["message"].startswith("gateway pod with UID pod-1 is ready, but has not")


def secret_url(world: World, key: str) -> str:
    return world.secret("demo-connections")[key]
