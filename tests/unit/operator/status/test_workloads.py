"""The state of a workload, from what Kubernetes says of it, of its pods and of its volume claims."""

from typing import Any

import pytest

from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.workloads import Workload, observe

DONE = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 5}
PENDING = {"metadata": {"name": "data-0"}, "status": {"phase": "Pending"}}


def workload(status: dict[str, int], replicas: int = 2) -> dict[str, Any]:
    return {"metadata": {"generation": 5}, "spec": {"replicas": replicas}, "status": status}


@pytest.mark.parametrize(
    ("status", "generation", "complete"),
    [
        ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 5}, 5, True),
        ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 4}, 5, False),
        ({"replicas": 3, "updatedReplicas": 2, "readyReplicas": 3, "observedGeneration": 5}, 5, False),
        ({"replicas": 2, "updatedReplicas": 1, "readyReplicas": 2, "observedGeneration": 5}, 5, False),
        ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "observedGeneration": 5}, 5, False),
        ({}, 5, False),
    ],
    ids=["done", "not seen yet", "old pods left", "being rolled out", "starting", "nothing yet"],
)
def test_a_workload_is_complete_when_all_pods_are_new_and_ready(
    status: dict[str, int], generation: int, *, complete: bool
) -> None:
    workload = {"metadata": {"generation": generation}, "spec": {"replicas": 2}, "status": status}
    assert observe(2, workload, []).is_complete is complete


def test_no_workload_is_not_complete() -> None:
    assert not observe(1, None, []).is_complete


def test_a_workload_of_no_pods_is_complete_only_once_its_controller_has_seen_it() -> None:
    workload = {"metadata": {"generation": 1}, "spec": {"replicas": 0}}
    assert not observe(0, workload, []).is_complete
    assert observe(0, {**workload, "status": {"observedGeneration": 1}}, []).is_complete


def test_what_does_not_exist_yet_has_no_pods() -> None:
    assert observe(3, None, []) == Workload(3, 0, 0, rolled_out=False, troubles=())


def test_pods_are_counted_as_kubernetes_counts_them() -> None:
    status = {"replicas": 4, "updatedReplicas": 3, "readyReplicas": 1, "observedGeneration": 5}
    assert observe(2, workload(status), []) == Workload(2, 4, 1, rolled_out=False, troubles=())
    assert observe(1, workload({"observedGeneration": 5}, 1), []) == Workload(1, 0, 0, rolled_out=False, troubles=())


def test_a_workload_that_was_asked_for_another_number_is_not_rolled_out() -> None:
    assert observe(2, workload(DONE), []).rolled_out
    assert not observe(2, workload(DONE, replicas=3), []).rolled_out


def test_claims_without_a_volume_are_told_only_while_pods_are_missing() -> None:
    assert observe(2, workload(DONE), [], [PENDING]).troubles == ()
    found = observe(2, workload({**DONE, "readyReplicas": 1}), [], [PENDING]).troubles
    assert [trouble.reason for trouble in found] == ["VolumePending"]


def test_one_more_trouble_comes_first() -> None:
    first, second = Trouble("First", "1"), Trouble("Second", "2")
    one = observe(2, workload(DONE), []).with_trouble(second)
    assert one == Workload(2, 2, 2, rolled_out=True, troubles=(second,))
    assert one.with_trouble(None) == one
    assert one.with_trouble(first).troubles == (first, second)
