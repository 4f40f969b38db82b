"""What the real API server says to a spec: a good one is taken, a bad one refused with field and remedy."""

import json
from typing import Any

import pytest

from demo.kubectl import Cluster, CommandFailed
from tests.e2e.push_cluster import build_push_cluster

URL = "https://issuer.example.com/keys"
KEY = {"name": "keys", "key": "jwks.json"}
AMOUNT = "must be an amount such as 512Mi"
ADDRESS = "must be an address such as https://issuer.example.com/keys"
HTTPS = "must begin with https://: whoever can change the keys on their way can sign tokens"
ORIGIN = "such as https://app.example.com: no path, no *"
LONG = "x" * 64


def gateway(**fields: Any) -> dict[str, Any]:
    return {"gateway": fields}


def auth(**fields: Any) -> dict[str, Any]:
    return gateway(auth=fields)


def jwks(**fields: Any) -> dict[str, Any]:
    return auth(algorithm="RS256", jwks=fields)


def managed(part: str, **fields: Any) -> dict[str, Any]:
    return {part: {"managed": fields}}


def limits(**fields: Any) -> dict[str, Any]:
    return gateway(resources={"limits": fields})


def apply(cluster: Cluster, spec: dict[str, Any], name: str = "tried") -> str:
    """Apply as a person does, but have the API server keep nothing."""
    document = json.dumps(build_push_cluster(spec, name))
    return cluster.kubectl("default")("apply", "--dry-run=server", "--filename", "-", stdin=document)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"routing": {"mode": "Multicast"}}, "spec.routing.mode", 'supported values: "Session", "Gateway", "Broadcast"'),
    ({"deletionPolicy": "Keep"}, "spec.deletionPolicy", 'supported values: "Retain", "Delete"'),
    (gateway(replica=3), "spec.gateway.replica", "unknown field"),
    (gateway(replicas=-1), "spec.gateway.replicas", "greater than or equal to 0"),
    (gateway(replicas="two"), "spec.gateway.replicas", "must be of type integer"),
    (gateway(drain=30), "spec.gateway.drain", "must be of type object"),
    (gateway(maxSessionsPerUser=257), "spec.gateway.maxSessionsPerUser", "less than or equal to 256"),
    (gateway(allowedOrigins=["app.example.com"]), "spec.gateway.allowedOrigins[0]", ORIGIN),
    (gateway(allowedOrigins=["https://a.example", "https://a.example/"]), "spec.gateway.allowedOrigins[1]", ORIGIN),
    (gateway(allowedOrigins=["https://*.example.com"]), "spec.gateway.allowedOrigins[0]", ORIGIN),
    (gateway(allowedOrigins=["https://a", "https://a"]), "spec.gateway.allowedOrigins[1]", "Duplicate value"),
    (limits(memory="lots"), "spec.gateway.resources.limits.memory", AMOUNT),
    (limits(memory=-1), "spec.gateway.resources.limits.memory", AMOUNT),
    (limits(cpu="1e3"), "spec.gateway.resources.limits.cpu", "such as 2, 1.5 (in quotes) or 500m"),
    (auth(mode="jwt"), "spec.gateway.auth.mode", 'supported values: "JWT", "Trusted"'),
    (
        auth(mode="Trusted", secretRef={"name": "x"}),
        "spec.gateway.auth",
        "remove secretRef, jwks, issuer and audiences",
    ),
    (auth(mode="Trusted", issuer="x"), "spec.gateway.auth", "or set mode to JWT"),
    (auth(mode="Trusted", audiences=["x"]), "spec.gateway.auth", "or set mode to JWT"),
    (auth(mode="Trusted", jwks={"url": URL}), "spec.gateway.auth", "or set mode to JWT"),
    (auth(algorithm="none"), "spec.gateway.auth.algorithm", 'supported values: "HS256", "RS256", "ES256"'),
    (auth(algorithm="RS256"), "spec.gateway.auth", "set auth.jwks.url or auth.jwks.secretRef"),
    (
        auth(algorithm="ES256", secretRef={"name": "x"}, jwks={"url": URL}),
        "spec.gateway.auth",
        "RS256 and ES256 take public keys from auth.jwks",
    ),
    (auth(jwks={"url": URL}), "spec.gateway.auth", "set auth.algorithm to RS256 or ES256, or remove jwks"),
    (auth(jwks={"secretRef": KEY}), "spec.gateway.auth", "set auth.algorithm to RS256 or ES256, or remove jwks"),
    (auth(secretRef={}), "spec.gateway.auth.secretRef.name", "Required value"),
    (auth(secretRef={"name": "UPPER"}), "spec.gateway.auth.secretRef.name", "should match"),
    (auth(issuer="with space"), "spec.gateway.auth.issuer", "must be printable ASCII without spaces"),
    (auth(audiences=["push", ""]), "spec.gateway.auth.audiences[1]", "must be printable ASCII without spaces"),
    (auth(audiences=["a", "a"]), "spec.gateway.auth.audiences[1]", "Duplicate value"),
    (auth(audiences=[f"a{n}" for n in range(17)]), "spec.gateway.auth.audiences", "at most 16 items"),
    (auth(audiences="push"), "spec.gateway.auth.audiences", "must be of type array"),
    (auth(requireExpiry="no"), "spec.gateway.auth.requireExpiry", "must be of type boolean"),
    (auth(userClaim="a b"), "spec.gateway.auth.userClaim", "should match"),
    (
        jwks(url="http://issuer.example.com/keys"),
        "auth.jwks.url",
        f"{HTTPS}. Set allowHttp: true to accept http:// anyway",
    ),
    (jwks(url="http://localhost.example.com/keys"), "auth.jwks.url", HTTPS),
    (jwks(url="http://127.0.0.1:80.example.com/"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="ftp://issuer.example.com/keys", allowHttp=True), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="issuer.example.com/keys"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="https://"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="https:///keys"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="https://user:password@issuer.example.com/keys"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="https://issuer.example.com:0/keys"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="https://issuer.example.com?keys"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="https://issuer.example.com/the keys"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url="https://bücher.example/keys"), "spec.gateway.auth.jwks.url", ADDRESS),
    (jwks(url=URL + LONG * 32), "spec.gateway.auth.jwks.url", "may not be more than 2048"),
    (jwks(url=URL, secretRef=KEY), "spec.gateway.auth.jwks", "from url or from secretRef, not from both"),
    (jwks(secretRef={"name": "keys"}), "spec.gateway.auth.jwks.secretRef.key", "Required value"),
    (jwks(secretRef={"name": "keys", "key": "a/b"}), "spec.gateway.auth.jwks.secretRef.key", "should match"),
    (jwks(secretRef=KEY, caSecretRef=KEY), "auth.jwks.caSecretRef", "only to a url with https://"),
    (jwks(url="http://i/", allowHttp=True, caSecretRef=KEY), "auth.jwks.caSecretRef", "only to a url with https://"),
    (jwks(url=URL, refreshSeconds=29), "spec.gateway.auth.jwks.refreshSeconds", "greater than or equal to 30"),
    (managed("rabbitmq", memory="64Mi"), "spec.rabbitmq.managed.memory", "must be at least 256Mi"),
    (managed("rabbitmq", storage="0"), "spec.rabbitmq.managed.storage", "must be more than zero"),
    (managed("rabbitmq", storage="big"), "spec.rabbitmq.managed.storage", AMOUNT),
    (managed("redis", maxMemory="1Mi"), "spec.redis.managed.maxMemory", "must be at least 16Mi"),
    (managed("redis", storage="1Gi", maxMemory="512Mi"), "redis.managed.storage", "at least 3 times maxMemory"),
    (
        {"delivery": {"offline": {"ttlSeconds": 60}}},
        "delivery.resume.windowSeconds",
        "Its default is 120, so set it too",
    ),
]


@pytest.mark.parametrize(("spec", "field", "allowed"), REFUSED, ids=[json.dumps(case[0])[:90] for case in REFUSED])
def test_a_bad_spec_is_refused_with_its_field_and_what_is_allowed(
    cluster: Cluster, spec: dict[str, Any], field: str, allowed: str
) -> None:
    with pytest.raises(CommandFailed) as caught:
        apply(cluster, spec)
    said = str(caught.value)
    assert field in said
    assert allowed in said
    assert "evaluating rule" not in said, "a rule broke off instead of saying what is wrong"


TAKEN: list[dict[str, Any]] = [
    {},
    gateway(allowedOrigins=["https://app.example.com", "http://[::1]:8080"]),
    limits(cpu=2, memory="1.5Gi"),
    auth(mode="Trusted"),
    auth(requireExpiry=False),
    auth(secretRef={"name": "tokens"}, issuer="https://issuer.example.com", audiences=["push"], userClaim="user_id"),
    auth(algorithm="ES256", jwks={"secretRef": KEY}),
    jwks(url=URL, caSecretRef=KEY, refreshSeconds=30),
    jwks(url="https://issuer_1.example.com.:8443/keys?for=push#all"),
    jwks(url="https://[2001:db8::1]:443/"),
    jwks(url="https://issuer.example.com"),
    jwks(url="http://localhost:8080/keys"),
    jwks(url="http://127.0.0.1"),
    jwks(url="http://issuer.example.com/keys", allowHttp=True),
    managed("redis", storage="768Mi", maxMemory="256Mi"),
    {"delivery": {"offline": {"ttlSeconds": 60}, "resume": {"windowSeconds": 60}}},
]


@pytest.mark.parametrize("spec", TAKEN, ids=[json.dumps(spec)[:90] for spec in TAKEN])
def test_a_good_spec_is_taken(cluster: Cluster, spec: dict[str, Any]) -> None:
    assert "created (server dry run)" in apply(cluster, spec)


@pytest.mark.parametrize("name", ["1st", "de.mo", "a" * 41])
def test_a_name_that_services_cannot_have_is_refused(cluster: Cluster, name: str) -> None:
    with pytest.raises(CommandFailed, match=r"metadata\.name must have at most 40 characters of a-z 0-9 and -"):
        apply(cluster, {}, name)
