"""What is wrong with pods is said in a sentence that names the next step."""

from typing import Any

import pytest

from pushcluster_operator.status.pods import find_claim_troubles, find_creation_trouble, find_troubles

LOOPING = {"restartCount": 2}


def pod(container: dict[str, Any], name: str = "p", **status: Any) -> dict[str, Any]:
    statuses = [{"name": "c", "image": "img:1", "ready": False, **container}]
    return {"metadata": {"name": name}, "status": {"containerStatuses": statuses, **status}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"lastState": {"terminated": {"exitCode": code, "reason": reason}}}


def ended_now(code: int) -> dict[str, Any]:
    """Return a container that has ended and waits for nothing yet."""
    return {"state": {"terminated": {"exitCode": code, "reason": "Error"}}}


@pytest.mark.parametrize(
    ("container", "reason", "sentence"),
    [
        (
            waiting("ErrImagePull", "x"),
            "ImagePullFailed",
            "image img:1 of pod p cannot be pulled; correct the image's name",
        ),
        (waiting("InvalidImageName", "y"), "ImagePullFailed", "access to its registry"),
        (waiting("ErrImageNeverPull", "y"), "ImagePullFailed", "access to its registry"),
        (waiting("ImagePullBackOff", "y"), "ImagePullFailed", "`kubectl describe pod p` says why"),
        (
            waiting("CreateContainerConfigError", 'secret "x" not found'),
            "CreateContainerConfigError",
            'pod p cannot start: secret "x" not found; create the object that this names',
        ),
        (waiting("CreateContainerError", "no space"), "CreateContainerError", "pod p cannot start: no space"),
        (waiting("RunContainerError", "no exec"), "RunContainerError", "pod p cannot start: no exec"),
        (waiting("CrashLoopBackOff") | ended(1) | LOOPING, "CrashLoopBackOff", "repeatedly ends with exit code 1"),
        ({"state": {"running": {}}} | ended(1) | LOOPING, "CrashLoopBackOff", "`kubectl logs p --previous` says why"),
        (waiting("CrashLoopBackOff") | ended(2) | LOOPING, "BadSettings", "refuses its settings"),
        ({"state": {"running": {}}} | ended(137, "OOMKilled"), "OOMKilled", "raise its memory limit"),
        (ended_now(3) | LOOPING, "CrashLoopBackOff", "repeatedly ends with exit code 3"),
        (ended_now(3) | ended(2) | LOOPING, "CrashLoopBackOff", "repeatedly ends with exit code 3"),
    ],
)
def test_a_container_that_does_not_run(container: dict[str, Any], reason: str, sentence: str) -> None:
    (trouble,) = find_troubles([pod(container)])
    assert trouble.reason == reason
    assert sentence in trouble.message


@pytest.mark.parametrize(
    "container",
    [
        waiting("ContainerCreating"),
        {"state": {"running": {}}},
        {"state": {"running": {}}, "restartCount": 1} | ended(1),
        {"state": {"running": {}}, "ready": True, "restartCount": 9} | ended(1),
    ],
    ids=["being created", "starting", "restarted once", "recovered"],
)
def test_states_that_pass_by_themselves_are_no_trouble(container: dict[str, Any]) -> None:
    assert find_troubles([pod(container)]) == ()


def test_the_pull_of_an_image_is_described_the_same_while_the_kubelets_words_alternate() -> None:
    one = find_troubles([pod(waiting("ErrImagePull", "failed to resolve"))])
    assert one == find_troubles([pod(waiting("ImagePullBackOff", "Back-off"))])


def test_a_pod_that_no_node_takes() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: cpu"}
    (trouble,) = find_troubles([{"metadata": {"name": "p"}, "status": {"conditions": [condition]}}])
    assert trouble.reason == "Unschedulable"
    assert "no node takes pod p: 0/3 nodes: cpu; add a node or lower" in trouble.message


def test_a_pod_that_is_being_deleted_is_no_trouble() -> None:
    leaving = pod(waiting("ImagePullBackOff"))
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert find_troubles([leaving]) == ()


def test_of_pods_with_the_same_trouble_one_is_named_and_the_others_are_counted() -> None:
    (trouble,) = find_troubles([pod(waiting("ErrImagePull"), name) for name in ("p", "q", "r")])
    assert "pod p " in trouble.message
    assert trouble.message.endswith("(2 more with the same problem)")


def test_a_volume_that_is_not_there_yet_is_named() -> None:
    claims = [{"metadata": {"name": f"data-{phase}"}, "status": {"phase": phase}} for phase in ("Pending", "Bound")]
    (trouble,) = find_claim_troubles(claims)
    assert trouble.reason == "VolumePending"
    assert "data-Pending has no volume yet" in trouble.message


def test_pods_that_cannot_even_be_made() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    (trouble,) = find_creation_trouble({"status": {"conditions": [failure]}})
    assert trouble.reason == "PodsRefused"
    assert "cannot create the pods: exceeded quota;" in trouble.message
    del failure["message"]
    (trouble,) = find_creation_trouble({"status": {"conditions": [failure]}})
    assert "cannot create the pods: ;" in trouble.message
