"""Fields that the operator has set and no longer wants."""

import copy
import json
from typing import Any

import pytest

from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.kube.ownership import FIELD_MANAGER, find_leftovers, fold_updates
from tests.unit.operator.objects import children

GATEWAY = children()["Deployment/demo-gateway"]
DATA: Manifest = {"f:data": {".": {}, "f:x": {}, "f:y": {}}}


def record(fields: Manifest, *, operation: str = "Apply", manager: str = FIELD_MANAGER, **more: Any) -> Manifest:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields, **more}


def live(*entries: Manifest) -> Manifest:
    return {"metadata": {"name": "demo", "managedFields": [*entries]}}


def own(value: Any) -> Manifest:
    """Return the record of somebody who has applied this. Lists have entries with names, or are whole."""
    if not isinstance(value, dict):
        return {}
    return {f"f:{name}": own_list(each) if isinstance(each, list) else own(each) for name, each in value.items()}


def own_list(value: list[Any]) -> Manifest:
    if all(isinstance(each, dict) and "name" in each for each in value):
        return {f"k:{json.dumps({'name': each['name']})}": {".": {}, **own(each)} for each in value}
    return {}


def applied(manifest: Manifest) -> Manifest:
    """Return the live object after the operator has applied this."""
    fields = own({name: value for name, value in manifest.items() if name not in {"apiVersion", "kind"}})
    del fields["f:metadata"]["f:ownerReferences"]
    return {**copy.deepcopy(manifest), "metadata": {**manifest["metadata"], "managedFields": [record(fields)]}}


@pytest.mark.parametrize("name", sorted(children()))
def test_of_what_was_applied_as_it_is_nothing_is_left_over(name: str) -> None:
    manifest = children()[name]
    assert find_leftovers(manifest, applied(manifest)) == []


def test_an_object_without_a_record_has_no_leftovers() -> None:
    assert find_leftovers(GATEWAY, {"metadata": {}}) == []


def test_a_limit_that_left_the_spec_is_left_over() -> None:
    limited = children({"gateway": {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}})["Deployment/demo-gateway"]
    plain = children({"gateway": {"resources": {"limits": {"memory": "1Gi"}}}})["Deployment/demo-gateway"]
    (left,) = find_leftovers(plain, applied(limited))
    assert left.startswith("spec.template.spec.containers.")
    assert left.endswith(".resources.limits.cpu")


@pytest.mark.parametrize("operation", ["Apply", "Update"])
def test_whatever_the_operator_has_set_counts(operation: str) -> None:
    found = live(record(DATA, operation=operation))
    assert find_leftovers({"data": {"x": "1"}}, found) == ["data.y"]
    assert find_leftovers({"data": {}}, found) == ["data.x", "data.y"]
    assert find_leftovers({}, found) == ["data"]


@pytest.mark.parametrize("entry", [record(DATA, manager="kubectl"), record(DATA, subresource="status")])
def test_what_others_have_set_and_the_status_do_not_count(entry: Manifest) -> None:
    assert find_leftovers({}, live(entry)) == []
    assert fold_updates(live(entry)) is None


@pytest.mark.parametrize(
    ("port", "is_left"),
    [
        ({"containerPort": 9090}, False),
        ({"containerPort": 9090, "protocol": "TCP"}, False),
        ({"containerPort": 9090, "protocol": "UDP"}, True),
        ({"containerPort": 9091}, True),
    ],
)
def test_an_entry_of_a_list_is_found_by_its_keys(port: Manifest, is_left: bool) -> None:
    """A key that is left out has its default in the record."""
    fields: Manifest = {"f:ports": {'k:{"containerPort":9090,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}}
    assert bool(find_leftovers({"ports": [port]}, live(record(fields)))) is is_left


def test_a_value_of_a_set_is_found_by_itself() -> None:
    fields: Manifest = {"f:metadata": {"f:finalizers": {".": {}, 'v:"a"': {}, 'v:"b"': {}}}}
    assert find_leftovers({"metadata": {"finalizers": ["b"]}}, live(record(fields))) == ['metadata.finalizers."a"']


def test_a_list_that_became_something_else_is_left_over() -> None:
    fields: Manifest = {"f:ports": {'k:{"name":"a"}': {"f:port": {}}}}
    assert find_leftovers({"ports": {}}, live(record(fields))) == ['ports.{"name":"a"}']
    assert find_leftovers({"ports": "a"}, live(record({"f:ports": {"f:a": {}}}))) == ["ports.a"]


def test_what_was_set_by_update_is_folded_into_what_was_applied() -> None:
    others = record({"f:spec": {"f:paused": {}}}, operation="Update", manager="kubectl")
    status = record({"f:status": {}}, operation="Update", subresource="status")
    ours = record({"f:data": {"f:x": {}}})
    merged = record({"f:data": {"f:x": {}, "f:y": {}}, "f:spec": {"f:z": {}}}, operation="Update")
    folded = fold_updates(live(others, merged, ours, status))
    assert folded == [others, status, record({"f:data": {"f:x": {}, "f:y": {}}, "f:spec": {"f:z": {}}})]
    assert fold_updates(live(*folded)) is None


def test_an_object_that_was_only_merged_counts_as_applied() -> None:
    folded = fold_updates(live(record(DATA, operation="Update"), record({"f:spec": {}}, operation="Update")))
    assert folded == [record({**DATA, "f:spec": {}})]
