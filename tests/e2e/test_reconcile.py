"""What platform teams rely on: children come back, rest means rest, scale works, deletion leaves no trace."""

import json
from typing import Any

import pytest

from demo.kubectl import CommandFailed, Kubectl
from tests.e2e.metrics import read_operator_metric
from tests.e2e.push_cluster import NAME, PushCluster, build_push_cluster, eventually, get_condition, wait_ready

KINDS = "statefulsets,deployments,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets"
CLUSTER_LABEL = "pushcluster.dev/cluster"
OWNED = f"{CLUSTER_LABEL}={NAME}"
RIGHT_WITHIN_S = 90
"""Until a child is as it should be: at the latest when the operator looks without being told, every 10 s."""
LOOKS_AT_REST = 4
"""At each PushCluster: one look is too few to see what every look writes anew."""


def children(pc: PushCluster) -> dict[str, Any]:
    """Return the PushCluster's children by kind/name."""
    items = pc.kubectl.items(KINDS, "--selector", OWNED)
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


@pytest.mark.parametrize(
    "child",
    [
        f"service/{NAME}-gateway",
        f"service/{NAME}-redis",
        f"deployment/{NAME}-dispatcher",
        f"configmap/{NAME}-rabbitmq",
        f"secret/{NAME}-producer",
        f"serviceaccount/{NAME}-gateway",
    ],
)
def test_a_deleted_child_comes_back(shared: PushCluster, child: str) -> None:
    uid = shared.kubectl("get", child, "--output", "jsonpath={.metadata.uid}")
    shared.kubectl("delete", child, "--wait=true")

    def is_back() -> bool:
        return shared.kubectl("get", child, "--output", "jsonpath={.metadata.uid}") not in ("", uid)

    eventually(is_back, within_s=RIGHT_WITHIN_S, what=f"{child} is back")
    shared.wait_ready()


@pytest.mark.parametrize(
    ("child", "patch", "path"),
    [
        (f"deployment/{NAME}-gateway", {"spec": {"replicas": 5}}, "{.spec.replicas}"),
        (
            f"service/{NAME}-gateway",
            {"spec": {"ports": [{"port": 80, "targetPort": 1}]}},
            "{.spec.ports[0].targetPort}",
        ),
        (f"configmap/{NAME}-rabbitmq", {"data": {"rabbitmq.conf": "edited"}}, "{.data.rabbitmq\\.conf}"),
        (f"statefulset/{NAME}-redis", {"metadata": {"labels": {CLUSTER_LABEL: "x"}}}, "{.metadata.labels}"),
    ],
    ids=["replicas", "service port", "configuration", "labels"],
)
def test_an_edited_child_is_put_right(shared: PushCluster, child: str, patch: dict[str, Any], path: str) -> None:
    def value() -> str:
        return shared.kubectl("get", child, "--output", f"jsonpath={path}")

    before = value()
    shared.kubectl("patch", child, "--type", "merge", "--patch", json.dumps(patch))
    eventually(lambda: value() == before, within_s=RIGHT_WITHIN_S, what=f"{path} of {child} is {before!r} again")
    shared.wait_ready()


def test_a_field_that_leaves_the_spec_leaves_the_child(shared: PushCluster) -> None:
    resources = "jsonpath={.spec.template.spec.containers[0].resources}"

    def limits() -> Any:
        return json.loads(shared.kubectl("get", f"deployment/{NAME}-dispatcher", "--output", resources))["limits"]

    def limit_cpu(cpu: str | None) -> None:
        spec = {"spec": {"dispatcher": {"resources": {"limits": {"cpu": cpu}}}}}
        shared.kubectl("patch", "pcl", NAME, "--type", "merge", "--patch", json.dumps(spec))

    before = limits()
    assert "cpu" not in before
    limit_cpu("2")
    eventually(lambda: limits() == {**before, "cpu": "2"}, within_s=RIGHT_WITHIN_S, what="the limit is in the child")
    limit_cpu(None)
    eventually(lambda: limits() == before, within_s=RIGHT_WITHIN_S, what="the limit has left the child")
    shared.wait_ready()


def test_what_the_operator_has_merged_leaves_too(shared: PushCluster) -> None:
    """An apply alone does not remove it: the API server's record says that it was set by another operation."""
    child = f"service/{NAME}-redis"
    merged = {"spec": {"publishNotReadyAddresses": True}}
    manager = "--field-manager=pushcluster-operator"
    shared.kubectl("patch", child, "--type", "merge", "--patch", json.dumps(merged), manager)

    def is_published() -> bool:
        return shared.kubectl("get", child, "--output", "jsonpath={.spec.publishNotReadyAddresses}") == "true"

    eventually(lambda: not is_published(), within_s=RIGHT_WITHIN_S, what="the field has left the Service")


def test_a_pushcluster_that_was_deleted_without_its_children_adopts_them_again(shared: PushCluster) -> None:
    shared.wait_ready()
    body = shared.kubectl.get("pcl", NAME)
    components = ("redis", "rabbitmq", "gateway", "dispatcher")
    pods = {pod["metadata"]["uid"] for component in components for pod in shared.pods(component)}
    shared.kubectl("delete", f"pcl/{NAME}", "--cascade=orphan", "--wait=true")
    shared.kubectl.apply(build_push_cluster(body["spec"]))
    uid = shared.kubectl.get("pcl", NAME)["metadata"]["uid"]

    def all_adopted() -> bool:
        owners = [item["metadata"].get("ownerReferences") or [] for item in children(shared).values()]
        return all([owner["uid"] for owner in each] == [uid] for each in owners)

    eventually(all_adopted, within_s=RIGHT_WITHIN_S, what="every child has the new owner")
    shared.wait_ready()
    after = {pod["metadata"]["uid"] for component in components for pod in shared.pods(component)}
    assert after <= pods, "no pod was made anew; one from before may have been about to go"


def test_at_rest_no_child_is_written(shared: PushCluster) -> None:
    shared.wait_ready()

    def versions() -> dict[str, str]:
        # A child's own controller writes its status; what the operator writes shows in its managed fields.
        return {
            name: json.dumps([f for f in item["metadata"].get("managedFields", []) if f.get("subresource") != "status"])
            + str(item["metadata"].get("generation"))
            for name, item in _with_managed_fields(shared).items()
        }

    def events() -> int:
        return sum("Restored" in event["reason"] for event in shared.kubectl.items("events"))

    def wait_looks(count: int) -> None:
        enough = count_looks(shared) + count * len(shared.kubectl.items("pcl", "--all-namespaces"))
        eventually(lambda: count_looks(shared) >= enough, within_s=180, what="the operator has looked again")

    def is_at_rest() -> bool:
        seen = versions(), events()
        wait_looks(1)
        return (versions(), events()) == seen

    # What the tests before have stirred up: an Event of it may come late.
    eventually(is_at_rest, within_s=180, what="the children are at rest")
    before, restored = versions(), events()
    wait_looks(LOOKS_AT_REST)
    # A write stays visible: it moves a generation or the time in a manager's entry.
    assert versions() == before
    assert events() == restored
    assert len(before) >= 12


def count_looks(pc: PushCluster) -> float:
    """Return how often the operator has looked at PushClusters since its start, by its own metric."""
    looks = read_operator_metric(pc.host, "pushcluster_operator_reconciles_total")
    assert looks, "the operator does not count its looks"
    return looks


def _with_managed_fields(pc: PushCluster) -> dict[str, Any]:
    items = pc.kubectl.items(KINDS, "--selector", OWNED, "--show-managed-fields")
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


def ready_gateways(pc: PushCluster) -> int:
    return int(pc.kubectl.get("pcl", NAME)["status"]["gateway"]["readyReplicas"])


def test_kubectl_scale_changes_the_number_of_gateways(shared: PushCluster) -> None:
    shared.kubectl("scale", f"pcl/{NAME}", "--replicas=3")
    try:
        eventually(lambda: len(shared.pods("gateway")) == 3, within_s=120, what="three gateway pods")
        shared.wait_ready()
        eventually(lambda: ready_gateways(shared) == 3, within_s=120, what="three gateways are ready by the status")
    finally:
        shared.kubectl("scale", f"pcl/{NAME}", "--replicas=2")
    eventually(lambda: len(shared.pods("gateway")) == 2, within_s=240, what="two gateway pods again")
    shared.wait_ready()


def test_explain_teaches(shared: PushCluster) -> None:
    text = shared.kubectl("explain", "pcl.spec.gateway")
    for field in ("replicas", "maxConnections", "drain", "auth", "allowedOrigins"):
        assert field in text
    assert "<no description>" not in shared.kubectl("explain", "pcl.spec", "--recursive=false")


def test_an_image_that_cannot_be_pulled_is_named_and_its_revert_heals(shared: PushCluster) -> None:
    def patch(image: str | None) -> None:
        spec = {"spec": {"dispatcher": {"image": image}}}
        shared.kubectl("patch", "pcl", NAME, "--type", "merge", "--patch", json.dumps(spec))

    patch("pushcluster/no-such-image:1")
    try:
        eventually(
            lambda: "no-such-image" in get_condition(shared.kubectl, "DispatchersReady").get("message", ""),
            within_s=180,
            what="the condition names the image",
        )
    finally:
        patch(None)
    shared.wait_ready()


def test_a_single_replica_never_blocks_a_drain(shared: PushCluster) -> None:
    wait_until_drains_are_free(shared.kubectl)


def wait_until_drains_are_free(kubectl: Kubectl) -> None:
    """Kubernetes reckons what a budget allows a little after pods have become ready."""

    def every_budget_allows_one() -> bool:
        return all(each["status"]["disruptionsAllowed"] >= 1 for each in kubectl.items("poddisruptionbudgets"))

    eventually(every_budget_allows_one, within_s=120, what="every budget lets one pod go")


def test_deleting_leaves_nothing_but_what_the_policy_keeps(shared: PushCluster, namespace: str) -> None:
    kubectl = shared.kubectl.within(namespace)
    spec = {"gateway": {"replicas": 1}, "dispatcher": {"replicas": 1}, "deletionPolicy": "Retain"}
    kubectl.apply(build_push_cluster(spec))
    wait_ready(kubectl)
    claims = {item["metadata"]["name"] for item in kubectl.items("persistentvolumeclaims")}
    assert len(claims) == 2
    wait_until_drains_are_free(kubectl)

    kubectl("delete", "pcl", NAME, "--wait=true", within_s=180)

    def rest() -> list[str]:
        items = kubectl.items(f"{KINDS},pods,endpointslices,leases", "--selector", OWNED)
        return [f"{item['kind']}/{item['metadata']['name']}" for item in items]

    eventually(lambda: not rest(), within_s=180, what="no child is left")
    assert {item["metadata"]["name"] for item in kubectl.items("persistentvolumeclaims")} == claims


def test_the_operator_may_do_no_more_than_it_needs(shared: PushCluster) -> None:
    account = "system:serviceaccount:pushcluster-system:pushcluster-operator"

    def may(*question: str) -> bool:
        try:
            return shared.kubectl("auth", "can-i", *question, f"--as={account}").strip() == "yes"
        except CommandFailed:
            return False

    assert may("list", "pods")
    assert may("patch", "deployments.apps")
    for question in (
        ("create", "clusterrolebindings"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("delete", "persistentvolumeclaims"),
        ("delete", "nodes"),
        ("delete", "pushclusters.pushcluster.dev"),
        ("impersonate", "users"),
        ("escalate", "clusterroles"),
        ("*", "*"),
    ):
        assert not may(*question), question
