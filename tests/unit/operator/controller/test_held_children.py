"""Which children wait for which Secrets."""

from typing import Any

import pytest

from pushcluster_operator.children import build_children
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.controller.held_children import find_dependents, find_unreadable, find_unstored
from pushcluster_operator.kube.credentials import Credentials
from pushcluster_operator.kube.manifest import Manifest, encode_data
from tests.unit.operator.objects import IMAGES, cluster

SECRETS = Credentials(*(f"the-value-number-{n}" for n in range(6)))
WANTED = [
    {"kind": "Secret", "metadata": {"name": "a"}, "data": encode_data({"key": "1"})},
    {"kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"key": "1"}},
]


def inputs(spec: dict[str, Any] | None = None, secrets: Credentials = SECRETS, *, released: bool = True) -> Inputs:
    return Inputs(cluster(spec), secrets, IMAGES, released)


@pytest.mark.parametrize(
    ("live", "unstored"),
    [
        ({}, {"a"}),
        ({"a": {"data": encode_data({"key": "1"})}}, set()),
        ({"a": {"data": encode_data({"key": "1", "more": "2"})}}, set()),
        ({"a": {"data": encode_data({"key": "2"})}}, {"a"}),
        ({"a": {"data": None}}, {"a"}),
        ({"b": {"data": encode_data({"key": "1"})}}, {"a"}),
    ],
    ids=["absent", "held", "more is held", "another value", "empty", "under another name"],
)
def test_a_value_is_stored_when_the_secret_of_its_name_holds_it(live: dict[str, Manifest], unstored: set[str]) -> None:
    assert find_unstored(WANTED, live) == unstored


@pytest.mark.parametrize(
    ("secret", "waiting"),
    [
        ("demo-jwt", {"Secret demo-jwt"}),
        ("demo-api", {"Secret demo-api", "Deployment demo-dispatcher"}),
        (
            "demo-redis",
            {
                "Secret demo-redis",
                "StatefulSet demo-redis",
                "Secret demo-connections",
                "Deployment demo-gateway",
                "Deployment demo-dispatcher",
            },
        ),
        (
            "demo-rabbitmq",
            {
                "Secret demo-rabbitmq",
                "StatefulSet demo-rabbitmq",
                "Secret demo-connections",
                "Secret demo-producer",
                "Deployment demo-gateway",
                "Deployment demo-dispatcher",
            },
        ),
        ("another", set()),
    ],
)
def test_children_wait_for_the_secrets_whose_values_they_are_built_from(secret: str, waiting: set[str]) -> None:
    wanted = inputs()
    desired = build_children(wanted.cluster, wanted.credentials, wanted.images)
    assert {str(key) for key in find_dependents(desired, wanted, {secret})} == waiting


def test_a_producers_secret_that_is_not_released_yet_waits_for_nothing() -> None:
    wanted = inputs(released=False)
    desired = build_children(wanted.cluster, wanted.credentials, wanted.images, producer_released=False)
    found = {str(key) for key in find_dependents(desired, wanted, {"demo-rabbitmq"})}
    assert "Secret demo-connections" in found
    assert "Secret demo-producer" not in found


@pytest.mark.parametrize(
    ("spec", "key", "is_refused"),
    [
        ({}, "a-key-that-is-read", False),
        ({}, "short", True),
        ({"dispatcher": {"api": {"enabled": False}}}, "short", False),
    ],
    ids=["readable", "unreadable", "unreadable, and the API is off"],
)
def test_keys_of_the_api_that_no_dispatcher_can_read_are_told(spec: Manifest, key: str, *, is_refused: bool) -> None:
    found = find_unreadable(inputs(spec, Credentials("c", "r", "p", "d", "j", key)))
    if not is_refused:
        assert found == {}
        return
    assert found.keys() == {"demo-api"}
    trouble = found["demo-api"]
    assert trouble.reason == "SecretUnreadable"
    assert "Secret demo-api" in trouble.message
    assert "Deployment demo-dispatcher waits" in trouble.message
