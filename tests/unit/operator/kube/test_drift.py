"""A child counts as changed when a field that we state is missing or different, and only then."""

import copy
from typing import Any

import pytest

from pushcluster_operator.kube.drift import is_drifted
from tests.unit.operator.objects import children, live

DESIRED = {
    "metadata": {
        "name": "x",
        "labels": {"a": "1"},
        "ownerReferences": [{"uid": "u", "controller": True}],
    },
    "spec": {
        "replicas": 2,
        "ports": [{"name": "ws", "port": 80}],
        "args": ["a", "b"],
        "empty": "",
        "volume": {},
        "off": False,
        "none": 0,
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    result: Any = copy.deepcopy(DESIRED)
    *way, last = path.split(".")
    inner = result
    for name in way:
        inner = inner[int(name)] if name.isdigit() else inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return dict(result)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.annotations", {"kubectl.kubernetes.io/restartedAt": "now"}),
        ("metadata.labels", {"a": "1", "b": "2"}),
        ("metadata.ownerReferences", [{"uid": "other"}, {"uid": "u", "controller": True, "kind": "PushCluster"}]),
        ("spec.ports.0", {"name": "ws", "port": 80, "protocol": "TCP", "nodePort": 30_000}),
        ("spec.empty", None),
        ("spec.volume", None),
        ("status", {"replicas": 2}),
    ],
)
def test_fields_that_others_add_are_no_drift(path: str, value: Any) -> None:
    live_ = changed(path.replace("ports.0", "ports"), [value]) if path.endswith(".0") else changed(path, value)
    assert not is_drifted(DESIRED, live_)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", 5),
        ("spec.replicas", None),
        ("spec.off", None),
        ("spec.off", True),
        ("spec.none", None),
        ("metadata.labels", {"a": "2"}),
        ("metadata.labels", None),
        ("spec.ports", [{"name": "ws", "port": 81}]),
        ("spec.ports", [{"name": "ws", "port": 80}, {"name": "more", "port": 81}]),
        ("spec.args", ["b", "a"]),
        ("spec.volume", "text"),
        ("metadata.ownerReferences", [{"uid": "other"}]),
        ("metadata.ownerReferences", [{"uid": "u", "controller": False}]),
        ("metadata.ownerReferences", []),
        ("metadata", "text"),
        ("spec.ports", "text"),
    ],
)
def test_a_changed_field_of_ours_is_drift(path: str, value: Any) -> None:
    assert is_drifted(DESIRED, changed(path, value))


@pytest.mark.parametrize("name", children())
def test_no_child_differs_from_itself(name: str) -> None:
    child = children()[name]
    assert not is_drifted(child, live(child))


@pytest.mark.parametrize("live", [["a", "x", "c"], ["x", "b", "c"], ["a", "b", "x"]])
def test_one_entry_of_a_list_that_differs_is_drift(live: list[str]) -> None:
    assert is_drifted({"spec": {"args": ["a", "b", "c"]}}, {"spec": {"args": live}})
    assert not is_drifted({"spec": {"args": live}}, {"spec": {"args": list(live)}})
