"""Bad values are refused in a sentence that names the field and what it may be."""

from typing import Any

import pytest

from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec.model import PushClusterSpec
from pushcluster_operator.spec.pushcluster import ClusterIdentity, PushCluster
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
        ({"gateway": {"auth": {"secretRef": {}}}}, r"spec.gateway.auth.secretRef.name must be a Secret's name, not ''"),
        ({"gateway": {"auth": {"secretRef": {"name": 5}}}}, r"auth.secretRef.name must be a Secret's name, not 5"),
        ({"gateway": {"image": 5}}, r"spec.gateway.image must be the name of a container image, not 5"),
        (
            {"gateway": {"auth": {"mode": "Trusted", "secretRef": {"name": "x"}}}},
            r"spec.gateway.auth.mode Trusted checks no token: remove secretRef",
        ),
        ({"gateway": {"auth": {"mode": "Trusted", "issuer": "me"}}}, "mode Trusted checks no token"),
        ({"gateway": {"auth": {"mode": "Trusted", "audiences": ["me"]}}}, "mode Trusted checks no token"),
        ({"gateway": {"auth": {"mode": "Trusted", "jwks": {"url": "https://i/k"}}}}, "mode Trusted checks no token"),
        ({"gateway": {"auth": {"algorithm": "none"}}}, "algorithm must be one of HS256, RS256, ES256, not 'none'"),
        ({"gateway": {"auth": {"algorithm": "RS256"}}}, "RS256 needs the issuer's public keys: set jwks.url or"),
        ({"gateway": {"auth": {"jwks": {"url": "https://i/k"}}}}, "jwks holds public keys, which HS256 does not have"),
        (
            {"gateway": {"auth": {"algorithm": "ES256", "secretRef": {"name": "x"}, "jwks": {"url": "https://i/k"}}}},
            "secretRef is the shared key of HS256; ES256 takes public keys from jwks",
        ),
        (
            {"gateway": {"auth": {"algorithm": "ES256", "jwks": {"url": "http://issuer.example/k"}}}},
            "jwks.url must begin with https://",
        ),
        (
            {"gateway": {"auth": {"algorithm": "ES256", "jwks": {"url": "http://localhost.evil/k"}}}},
            "jwks.url must begin with https://",
        ),
        (
            {"gateway": {"auth": {"algorithm": "ES256", "jwks": {"url": "https://user:pw@issuer/k"}}}},
            "jwks.url must be an address that begins with https://",
        ),
        (
            {
                "gateway": {
                    "auth": {
                        "algorithm": "ES256",
                        "jwks": {"url": "https://i/k", "secretRef": {"name": "x", "key": "y"}},
                    }
                }
            },
            "jwks takes its keys from url or from secretRef, not from both",
        ),
        (
            {
                "gateway": {
                    "auth": {
                        "algorithm": "ES256",
                        "jwks": {
                            "secretRef": {"name": "x", "key": "y"},
                            "caSecretRef": {"name": "x", "key": "y"},
                        },
                    }
                }
            },
            "caSecretRef applies only to a url with https://",
        ),
        (
            {"gateway": {"auth": {"algorithm": "ES256", "jwks": {"secretRef": {"name": "x"}}}}},
            r"jwks.secretRef.key must be a key of that Secret, not ''",
        ),
        ({"gateway": {"auth": {"audiences": ["a b"]}}}, r"audiences\[0\] must be what a token may say in aud"),
        ({"gateway": {"maxSessionsPerUser": 257}}, "maxSessionsPerUser must be a whole number from 1 to 256"),
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


def test_fields_that_only_the_api_server_knows_are_named_and_the_rest_is_read() -> None:
    auth = {"mode": "Trusted", "strict": True, "newer": {"field": 1}}
    cluster = PushCluster.from_api(body({"gateway": {"replicas": 3, "auth": auth}, "newer": {}}))
    assert cluster.spec == PushClusterSpec.from_body(body({"gateway": {"replicas": 3, "auth": {"mode": "Trusted"}}}))
    assert cluster.unknown_fields == ("spec.gateway.auth.strict", "spec.gateway.auth.newer", "spec.newer")


def test_a_spec_from_the_api_server_is_checked_against_the_same_bounds() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.gateway\.replicas"):
        PushCluster.from_api(body({"gateway": {"replicas": 501}}))


def test_no_spec_is_an_empty_spec() -> None:
    assert PushClusterSpec.from_body({}) == PushClusterSpec.from_body({"spec": {}})


def test_who_a_pushcluster_is_can_be_read_when_its_spec_cannot() -> None:
    identity = ClusterIdentity.from_body(
        body({"x": 1}, annotations={"pushcluster.dev/paused": "true"}, deletionTimestamp="t")
    )
    assert (identity.id, identity.paused, identity.deleting) == ("team.demo", True, True)
