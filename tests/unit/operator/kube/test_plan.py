"""What is done about the children."""

import pytest

from pushcluster_operator.kube.labels import CLUSTER
from pushcluster_operator.kube.manifest import (
    Manifest,
    ObjectKey,
    digest,
    key_of,
)
from pushcluster_operator.kube.ownership import FIELD_MANAGER
from pushcluster_operator.kube.plan import (
    Applied,
    Apply,
    Delete,
    Plan,
    plan_children,
)
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from tests.unit.operator.objects import body, by_key, children, live

IDENTITY = ClusterIdentity.from_body(body())
DESIRED = list(children().values())
GATEWAY = children()["Deployment/demo-gateway"]
BUDGET = children()["PodDisruptionBudget/demo-gateway"]
JWT = children()["Secret/demo-jwt"]


OURS = [{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {}}]


def by_kind(manifest: Manifest) -> str:
    return str(manifest["kind"])


def plan(desired: list[Manifest], *found: Manifest, remembered: dict[ObjectKey, Applied] | None = None) -> Plan:
    return plan_children(desired, by_key(*found), IDENTITY, remembered or {})


def edited(manifest: Manifest, **metadata: object) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}


def test_everything_is_made_in_its_order_when_there_is_nothing() -> None:
    assert plan(DESIRED) == Plan(tuple(Apply(manifest, None) for manifest in DESIRED), ())


def test_at_rest_nothing_is_done() -> None:
    assert plan(DESIRED, *map(live, DESIRED)) == Plan((), ())


def test_a_deleted_child_is_made_again_and_that_is_told() -> None:
    remembered = {key_of(GATEWAY): Applied("an earlier one", "1")}
    assert plan([GATEWAY], remembered=remembered).steps == (Apply(GATEWAY, None, restores=True),)


def test_an_edited_child_is_put_right_and_that_is_told() -> None:
    found = live(edited(GATEWAY, labels={}), version="2")
    remembered = {key_of(GATEWAY): Applied(digest(GATEWAY), "1")}
    assert plan([GATEWAY], found, remembered=remembered).steps == (
        Apply(GATEWAY, found["metadata"]["uid"], restores=True),
    )


def test_a_new_spec_is_applied_and_restores_nothing() -> None:
    wanted = children({"gateway": {"replicas": 5}})["Deployment/demo-gateway"]
    remembered = {key_of(GATEWAY): Applied(digest(GATEWAY), "1")}
    (step,) = plan([wanted], live(GATEWAY), remembered=remembered).steps
    assert isinstance(step, Apply)
    assert not step.restores


def test_a_form_that_the_api_server_stores_differently_is_not_applied_for_ever() -> None:
    found = live(edited(GATEWAY, labels={}), version="7")
    assert plan([GATEWAY], found, remembered={key_of(GATEWAY): Applied(digest(GATEWAY), "7")}).steps == ()


def test_what_is_no_longer_wanted_is_deleted() -> None:
    found = live(BUDGET)
    assert plan([], found).steps == (Delete(key_of(BUDGET), found["metadata"]["uid"]),)


def test_a_generated_secret_is_kept_until_its_owner_goes() -> None:
    assert plan([], live(JWT)).steps == ()


def test_the_object_of_somebody_else_is_neither_changed_nor_deleted() -> None:
    others = edited(GATEWAY, ownerReferences=[])
    assert plan([GATEWAY], live(others)) == Plan((), (key_of(GATEWAY),))
    assert plan([], live(others)) == Plan((), ())


@pytest.mark.parametrize("manifest", [GATEWAY, JWT, children()["StatefulSet/demo-redis"]], ids=by_kind)
def test_an_orphan_of_a_former_pushcluster_of_the_same_name_is_adopted(manifest: Manifest) -> None:
    """`kubectl delete --cascade=orphan` leaves it without an owner."""
    found = live(edited(manifest, ownerReferences=[], managedFields=OURS))
    assert plan([manifest], found) == Plan((Apply(manifest, found["metadata"]["uid"], adopts=True),), ())
    assert plan([], found).steps == (), "nobody asked for its removal"


@pytest.mark.parametrize(
    "metadata",
    [
        {"managedFields": [{"manager": "kubectl", "operation": "Apply"}]},
        {"managedFields": [{**OURS[0], "subresource": "status"}]},
        {"labels": {**GATEWAY["metadata"]["labels"], CLUSTER: "another"}},
        {"labels": {}},
        {"ownerReferences": [{**GATEWAY["metadata"]["ownerReferences"][0], "uid": "another"}]},
    ],
    ids=["not ours", "only a status", "of another name", "no label", "another controller"],
)
def test_what_may_be_somebody_elses_is_not_adopted(metadata: Manifest) -> None:
    found = live(edited(GATEWAY, **{"ownerReferences": [], "managedFields": OURS, **metadata}))
    assert plan([GATEWAY], found) == Plan((), (key_of(GATEWAY),))


def test_an_orphan_with_an_owner_that_does_not_control_it_is_adopted() -> None:
    owners = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]
    (step,) = plan([GATEWAY], live(edited(GATEWAY, ownerReferences=owners, managedFields=OURS))).steps
    assert isinstance(step, Apply)
    assert step.adopts


def test_the_children_of_a_former_pushcluster_of_the_same_name_are_not_ours() -> None:
    owner = {**GATEWAY["metadata"]["ownerReferences"][0], "uid": "the former one"}
    assert plan([GATEWAY], live(edited(GATEWAY, ownerReferences=[owner]))).conflicts == (key_of(GATEWAY),)


def test_a_child_that_is_being_deleted_is_waited_for() -> None:
    found = live(edited(GATEWAY, labels={}, deletionTimestamp="now"))
    assert plan([GATEWAY], found).steps == ()
    assert plan([], found).steps == ()
