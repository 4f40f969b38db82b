"""Bad values are refused in a sentence that names the field and what it may be."""

from typing import Any

import pytest

from pushcluster_operator.cluster import Identity, PushCluster
from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec import PushClusterSpec
from tests.unit.operator.objects import body


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"gateway": {"replica": 1}}, r"spec.gateway.replica is not a field of PushCluster; did you mean replicas\?"),
        ({"gateway": 1}, r"spec.gateway must be an object, not 1"),
        ({"gateway": {"replicas": True}}, r"spec.gateway.replicas must be a whole number from 0 to 500, not True"),
        ({"gateway": {"replicas": "2"}}, r"spec.gateway.replicas must be a whole number"),
        ({"routing": {"mode": "session"}}, r"spec.routing.mode must be one of Session, Gateway, Broadcast"),
        ({"dispatcher": {"api": {"enabled": "yes"}}}, r"spec.dispatcher.api.enabled must be true or false"),
        ({"gateway": {"allowedOrigins": ["app"]}}, r"spec.gateway.allowedOrigins\[0\] must be an origin such as"),
        ({"gateway": {"auth": {"secretRef": {}}}}, r"spec.gateway.auth.secretRef.name must be a Secret's name"),
        (
            {"gateway": {"auth": {"mode": "Trusted", "secretRef": {"name": "x"}}}},
            r"spec.gateway.auth.secretRef has no meaning with mode Trusted",
        ),
        (
            {"gateway": {"resources": {"requests": {"memory": "1Gi"}}}},
            r"spec.gateway.resources.requests.memory \(1Gi\) is more than limits.memory \(512Mi\)",
        ),
        (
            {"gateway": {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}}},
            r"requests.cpu \(2\) is more than limits.cpu \(1500m\)",
        ),
        (
            {"redis": {"managed": {"storage": "700Mi"}}},
            r"spec.redis.managed.storage \(700Mi\) must be at least 3 times",
        ),
        ({"rabbitmq": {"managed": {"memory": "64Mi"}}}, r"spec.rabbitmq.managed.memory must be at least 256Mi"),
        (
            {"delivery": {"offline": {"ttlSeconds": 60}}},
            r"resume.windowSeconds \(120\) must not be more than offline.ttlSeconds \(60\)",
        ),
    ],
)
def test_a_bad_spec_is_refused_with_a_sentence(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSpec, match=sentence):
        PushClusterSpec.from_body(body(spec))


@pytest.mark.parametrize("name", ["x" * 41, "a.b", "1a", "a-", "A"])
def test_a_name_that_children_cannot_be_named_after_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match=r"metadata\.name"):
        PushCluster.from_body(body(name=name))


def test_quantities_are_read_in_canonical_form() -> None:
    spec = PushClusterSpec.from_body(body({"rabbitmq": {"managed": {"memory": "1024Mi"}}}))
    assert spec.rabbitmq.memory == "1Gi"


def test_no_spec_is_an_empty_spec() -> None:
    assert PushClusterSpec.from_body({}) == PushClusterSpec.from_body({"spec": {}})


def test_who_a_pushcluster_is_can_be_read_when_its_spec_cannot() -> None:
    identity = Identity.from_body(body({"x": 1}, annotations={"pushcluster.dev/paused": "true"}, deletionTimestamp="t"))
    assert (identity.id, identity.paused, identity.deleting) == ("team.demo", True, True)
