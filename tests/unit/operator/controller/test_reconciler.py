"""One look at a PushCluster: which children are written, and which are left alone."""

from typing import Any

import pytest

from pushcluster_operator.controller.reconciler import FIRST_RECHECK_S, RESYNC_S
from pushcluster_operator.errors import Conflict, Unavailable
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.kube.ownership import FIELD_MANAGER
from pushcluster_operator.spec.pushcluster import KIND
from tests.unit.operator.objects import NAME
from tests.unit.operator.world import KEY, World


async def test_an_empty_spec_becomes_a_whole_cluster(world: World) -> None:
    assert await world.look() == RESYNC_S
    kinds = {str(key) for key in world.kube.objects}
    assert {"StatefulSet demo-rabbitmq", "StatefulSet demo-redis", "Deployment demo-gateway"} <= kinds
    assert {"Deployment demo-dispatcher", "PodDisruptionBudget demo-gateway", "Secret demo-jwt"} <= kinds
    assert world.condition("Ready")["reason"] == "RabbitMQNotReady"
    assert world.condition("Progressing")["status"] == "True"
    assert world.kube.reasons == ["Created"]


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
    assert world.kube.reasons == ["ChildRestored", "GatewaysNotReady"]


async def test_a_child_without_its_labels_is_found_by_its_name(world: World) -> None:
    await world.settle()
    world.kube.edit("StatefulSet", "demo-redis", metadata={"labels": {"pushcluster.dev/cluster": "x"}})
    await world.look()
    assert world.kube.at("StatefulSet", "demo-redis")["metadata"]["labels"]["pushcluster.dev/cluster"] == NAME


async def test_a_foreign_entry_in_a_list_of_a_child_is_removed(world: World) -> None:
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


async def test_a_lasting_conflict_is_reconciled_less_and_less_often(world: World) -> None:
    world.kube.conflicts.add("Service")
    assert [await world.look() for _ in range(5)] == [1, 2, 4, 8, RESYNC_S]
    world.kube.conflicts.clear()
    assert await world.look() == RESYNC_S
    world.kube.conflicts.add("Service")
    world.kube.remove("Service", "demo-gateway")
    assert await world.look() == 1


def set_by_operator(operation: str) -> dict[str, Any]:
    entry = {"manager": FIELD_MANAGER, "operation": operation, "fieldsV1": {"f:spec": {"f:paused": {}}}}
    return {"managedFields": [entry]}


@pytest.mark.parametrize("operation", ["Apply", "Update"])
async def test_what_the_operator_has_set_and_no_longer_wants_is_applied_away(world: World, operation: str) -> None:
    await world.settle()
    world.kube.edit("Deployment", "demo-gateway", metadata=set_by_operator(operation), spec={"paused": True})
    await world.look()
    folding = ["set managed fields Deployment demo-gateway"] if operation == "Update" else []
    expected = [*folding, "apply Deployment demo-gateway"]
    assert [each for each in world.kube.writes if "Deployment" in each] == expected


async def test_a_child_that_changed_before_its_record_is_folded_is_neither_merged_nor_taken_for_right(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.settle()
    world.kube.edit("Deployment", "demo-gateway", metadata=set_by_operator("Update"), spec={"paused": True})
    fold = world.kube.set_managed_fields

    async def too_late(*_: object) -> Manifest:
        raise Conflict("changed")

    monkeypatch.setattr(world.kube, "set_managed_fields", too_late)
    assert await world.look() == FIRST_RECHECK_S
    assert [each for each in world.kube.writes if "Deployment" in each] == []
    monkeypatch.setattr(world.kube, "set_managed_fields", fold)
    await world.look()
    assert "apply Deployment demo-gateway" in world.kube.writes
    assert "ChildRestored" not in world.kube.reasons


async def test_nothing_is_applied_away_from_a_secret(world: World) -> None:
    await world.settle()
    world.kube.edit("Secret", "demo-jwt", metadata=set_by_operator("Update"))
    await world.look()
    assert world.kube.writes == []


def orphan_all(world: World) -> None:
    """Do what `kubectl delete --cascade=orphan` does to the children."""
    for child in list(world.kube.objects.values()):
        if child["metadata"].get("ownerReferences"):
            orphan = {"ownerReferences": [], "managedFields": [{"manager": FIELD_MANAGER, "operation": "Apply"}]}
            world.kube.put({**child, "metadata": {**child["metadata"], **orphan}})


def owners_of_children(world: World) -> list[str]:
    children = [child for key, child in world.kube.objects.items() if key.kind != KIND]
    return [owner["uid"] for child in children for owner in child["metadata"].get("ownerReferences") or ()]


async def test_orphans_are_adopted_with_their_keys_and_that_is_told(world: World) -> None:
    await world.settle()
    keys = world.kube.at("Secret", "demo-jwt")["data"]
    orphan_all(world)
    body = world.kube.at(KIND, NAME)
    world.kube.put({**body, "metadata": {**body["metadata"], "uid": "a new one"}})
    await world.look()
    owners = owners_of_children(world)
    assert {*owners} == {"a new one"}
    assert len(owners) >= 12
    assert world.kube.at("Secret", "demo-jwt")["data"] == keys
    assert "ChildAdopted" in world.kube.reasons
    assert "NameTaken" not in str(body["status"])


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_pushcluster_that_is_deleted_without_its_children_does_not_adopt_them(
    world: World, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    """They would be deleted with it. The look began before the deletion, and sees the children after it."""
    await world.settle()
    orphan_all(world)
    get = world.kube.get
    first = await get(KIND, *KEY)
    assert first is not None
    leaving = {**first, "metadata": {**first["metadata"], "deletionTimestamp": "now"}}
    answers = [first, None if is_gone else leaving]

    async def answer(kind: str, namespace: str, name: str) -> Manifest | None:
        return answers.pop(0) if kind == KIND else await get(kind, namespace, name)

    monkeypatch.setattr(world.kube, "get", answer)
    assert await world.look() == FIRST_RECHECK_S
    assert owners_of_children(world) == []
    assert answers == []


async def test_a_refused_kind_of_child_does_not_stop_the_creation_of_the_others(world: World) -> None:
    world.kube.refuses.add("PodDisruptionBudget")
    await world.look()
    assert "Deployment demo-dispatcher" in {str(key) for key in world.kube.objects}
    assert world.condition("Degraded")["reason"] == "ChildRefused"
    assert "the API server refuses PodDisruptionBudget demo-gateway" in world.condition("Ready")["message"]


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
