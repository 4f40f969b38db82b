"""Secrets at a look: made once, read back, kept apart from others; nothing is built from what is not stored."""

import base64
from typing import Any

import pytest

from pushcluster_operator.controller.reconciler import RESYNC_S
from pushcluster_operator.kube.manifest import Manifest, encode_data
from pushcluster_operator.spec.pushcluster import KIND
from tests.unit.operator.objects import NAME, NAMESPACE
from tests.unit.operator.world import World


async def test_producers_get_their_credentials_only_after_a_dispatcher_is_ready(world: World) -> None:
    await world.look()
    assert "Secret demo-producer" not in {str(key) for key in world.kube.objects}
    world.run_workloads()
    await world.look()
    assert world.secret("demo-producer")["username"] == "producer"


async def test_credentials_once_released_are_kept_right_while_no_dispatcher_is_ready(world: World) -> None:
    await world.settle()
    before = world.secret("demo-producer")
    world.kube.edit("Deployment", "demo-dispatcher", status={"readyReplicas": 0})
    world.kube.edit("Secret", "demo-producer", data={"host": "ZWRpdGVk"})
    await world.look()
    assert world.secret("demo-producer") == before


async def test_secrets_are_read_back_and_never_made_anew(world: World) -> None:
    await world.settle()
    before = {name: world.secret(name) for name in ("demo-rabbitmq", "demo-redis", "demo-jwt", "demo-api")}
    world.spec({"gateway": {"replicas": 3}}, generation=4)
    await world.look()
    assert {name: world.secret(name) for name in before} == before


async def test_a_deleted_secret_is_made_anew_and_everything_that_read_it_rolls(world: World) -> None:
    await world.settle()
    checksum = world.checksum("demo-gateway")
    world.kube.remove("Secret", "demo-redis")
    await world.look()
    assert world.secret("demo-redis")["password"] in world.secret("demo-connections")["redis-url"]
    assert world.checksum("demo-gateway") != checksum


@pytest.mark.parametrize("name", ["rabbitmq", "redis", "api", "connections"])
async def test_no_child_is_built_from_a_value_that_a_foreign_secret_does_not_hold(world: World, name: str) -> None:
    foreign = {"kind": "Secret", "metadata": {"name": f"demo-{name}", "namespace": NAMESPACE}, "data": {"x": "eA=="}}
    world.kube.put(foreign)
    await world.look()
    world.kube.writes.clear()
    assert await world.look() == RESYNC_S
    assert world.kube.writes == []
    assert world.kube.at("Secret", f"demo-{name}")["data"] == {"x": "eA=="}
    reader = "dispatcher" if name == "api" else "gateway"
    assert f"Deployment demo-{reader}" not in {str(key) for key in world.kube.objects}
    assert f"Secret demo-{name} cannot be stored" in world.condition("Degraded")["message"]


async def test_gateways_wait_for_the_key_of_tokens_themselves(world: World) -> None:
    """They read it from a mounted file: no child is built from it, and a foreign Secret is left alone."""
    foreign = {"kind": "Secret", "metadata": {"name": "demo-jwt", "namespace": NAMESPACE}, "data": {"x": "eA=="}}
    world.kube.put(foreign)
    await world.look()
    world.kube.writes.clear()
    assert await world.look() == RESYNC_S
    assert world.kube.writes == []
    assert world.kube.at("Secret", "demo-jwt")["data"] == {"x": "eA=="}
    assert "Deployment demo-gateway" in {str(key) for key in world.kube.objects}
    assert "Secret demo-jwt cannot be stored" in world.condition("Degraded")["message"]


async def test_a_foreign_secret_that_holds_the_key_is_used(world: World) -> None:
    foreign = {"kind": "Secret", "metadata": {"name": "demo-jwt", "namespace": NAMESPACE}}
    world.kube.put({**foreign, "data": {"hs256.key": "YWFh" * 12}})
    await world.look()
    assert "Deployment demo-gateway" in {str(key) for key in world.kube.objects}
    world.kube.writes.clear()
    await world.look()
    assert world.kube.writes == []


async def test_refused_secrets_change_nothing_that_depends_on_them(world: World) -> None:
    await world.settle()
    for name in ("rabbitmq", "redis", "jwt", "api"):
        world.kube.remove("Secret", f"demo-{name}")
    world.kube.refuses.add("Secret")
    await world.look()
    assert world.kube.writes == [f"status {KIND} {NAME}"]
    world.kube.writes.clear()
    await world.look()
    assert world.kube.writes == []
    assert world.condition("Degraded")["reason"] == "ChildRefused"
    assert "Children that depend on it wait" in world.condition("Degraded")["message"]
    world.kube.refuses.clear()
    await world.settle()
    await world.look()
    assert world.condition("Ready")["status"] == "True"


@pytest.mark.parametrize("second", [b"the-new-key publsh", b"# the new one", b"short", b"schl\xfcssel-neu"])
async def test_a_typo_in_the_api_keys_destroys_none_and_rolls_no_dispatcher(world: World, second: bytes) -> None:
    await world.settle()
    checksum = world.checksum("demo-dispatcher")
    data = {"api-key": base64.b64encode(b"the-old-key publish\n" + second).decode()}
    world.kube.edit("Secret", "demo-api", data=data)
    await world.look()
    assert await world.look() == RESYNC_S
    assert world.kube.at("Secret", "demo-api")["data"] == data
    assert world.checksum("demo-dispatcher") == checksum
    degraded = world.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "SecretUnreadable")
    for word in ("Secret demo-api", "line 2", "Deployment demo-dispatcher"):
        assert word in degraded["message"]
    assert second.split()[0].decode(errors="replace") not in degraded["message"]
    data = encode_data({"api-key": "the-old-key publish\nthe-new-key publish"})
    world.kube.edit("Secret", "demo-api", data=data)
    await world.settle()
    await world.look()
    assert world.kube.at("Secret", "demo-api")["data"] == data
    assert world.checksum("demo-dispatcher") != checksum
    assert world.condition("Ready")["status"] == "True"


async def test_unreadable_api_keys_are_reported_for_a_paused_cluster_too(world: World) -> None:
    await world.settle()
    world.kube.edit("Secret", "demo-api", data=encode_data({"api-key": "the-old-key publsh"}))
    world.spec({}, annotations={"pushcluster.dev/paused": "true"})
    await world.look()
    assert world.condition("Degraded")["reason"] == "SecretUnreadable"


async def test_without_the_api_nobody_is_told_of_its_keys(world: World) -> None:
    world.spec({"dispatcher": {"api": {"enabled": False}}})
    foreign = {"kind": "Secret", "metadata": {"name": "demo-api", "namespace": NAMESPACE}}
    world.kube.put({**foreign, "data": encode_data({"api-key": "the-old-key publsh"})})
    await world.settle()
    await world.look()
    assert world.condition("Degraded")["status"] == "False"


async def test_a_secret_that_appears_after_the_snapshot_is_not_overwritten(world: World) -> None:
    foreign = {"kind": "Secret", "metadata": {"name": "demo-jwt", "namespace": NAMESPACE}, "data": {"x": "eA=="}}
    look_it_up = world.kube.get

    async def get(kind: str, namespace: str, name: str) -> Manifest | None:
        found = await look_it_up(kind, namespace, name)
        if name == "demo-jwt" and found is None:
            world.kube.put(foreign)
        return found

    world.kube.get = get  # type: ignore[method-assign]
    assert await world.look() == 1
    assert await world.look() == RESYNC_S
    assert world.kube.at("Secret", "demo-jwt")["data"] == {"x": "eA=="}
    assert world.condition("Degraded")["reason"] == "NameTaken"


async def test_a_missing_key_of_the_author_is_named(world: World) -> None:
    world.spec({"gateway": {"auth": {"secretRef": {"name": "mine"}}}})
    await world.look()
    assert world.condition("Ready")["reason"] == "SecretMissing"
    assert "Secret mine does not exist" in world.condition("Degraded")["message"]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"x" * 32 + b"\n", None),
        (b"x" * 300, None),
        (b"\xff" * 31 + b"\n", None),
        (b"\xff" * 31, "KeyUnusable"),
        (b"short", "KeyUnusable"),
    ],
)
async def test_a_key_written_into_the_generated_secret_is_kept_and_what_is_wrong_with_it_is_said(
    world: World, written: bytes, reason: str | None
) -> None:
    await world.settle()
    data = {"hs256.key": base64.b64encode(written).decode()}
    world.kube.edit("Secret", "demo-jwt", data=data)
    await world.look()
    assert await world.look() == RESYNC_S
    assert world.kube.at("Secret", "demo-jwt")["data"] == data
    degraded = world.condition("Degraded")
    assert degraded["status"] == ("False" if reason is None else "True")
    if reason is not None:
        assert degraded["reason"] == reason
        assert "hs256.key in Secret demo-jwt" in degraded["message"]
        assert "secretRef" not in degraded["message"]


async def test_a_second_key_in_the_generated_secret_is_checked_too(world: World) -> None:
    await world.settle()
    first = world.secret("demo-jwt")["hs256.key"]
    world.kube.edit("Secret", "demo-jwt", data=encode_data({"hs256.key": first, "hs256.second.key": "next"}))
    await world.look()
    assert "hs256.second.key in Secret demo-jwt" in world.condition("Degraded")["message"]


async def test_a_generated_key_that_is_yet_to_be_made_is_no_trouble(world: World) -> None:
    await world.look()
    assert world.condition("Degraded")["status"] == "False"
    world.kube.edit("Secret", "demo-jwt", data=encode_data({"hs256.key": "\n"}))
    await world.look()
    assert world.condition("Degraded")["status"] == "False"
    assert len(world.secret("demo-jwt")["hs256.key"]) == 43


async def test_a_changed_key_of_the_author_rolls_nothing(world: World) -> None:
    def key(text: str) -> Manifest:
        data = {"hs256.key": "YWFh" * text.count("x")}
        return {"kind": "Secret", "metadata": {"name": "mine", "namespace": NAMESPACE}, "data": data}

    world.kube.put(key("x" * 20))
    world.spec({"gateway": {"auth": {"secretRef": {"name": "mine"}}}})
    await world.settle()
    world.kube.put(key("x" * 21))
    world.kube.writes.clear()
    await world.look()
    assert world.kube.writes == []


JWKS = {"secretRef": {"name": "keys", "key": "jwks.json"}}
CA = {"url": "https://issuer.example/keys", "caSecretRef": {"name": "ca", "key": "ca.crt"}}


@pytest.mark.parametrize(
    ("auth", "secrets", "reason", "says"),
    [
        ({"secretRef": {"name": "mine"}}, {"mine": {}}, "SecretIncomplete", "hs256.key"),
        ({"secretRef": {"name": "mine"}}, {"mine": {"hs256.key": "x" * 31}}, "KeyUnusable", "hs256.key"),
        (
            {"secretRef": {"name": "mine"}},
            {"mine": {"hs256.key": "x" * 32, "hs256.second.key": "x" * 31}},
            "KeyUnusable",
            "hs256.second.key",
        ),
        (
            {"secretRef": {"name": "mine"}},
            {"mine": {"hs256.key": "-----BEGIN PUBLIC KEY-----\n" * 2}},
            "KeyUnusable",
            "RS256",
        ),
        (
            {"secretRef": {"name": "mine"}},
            {"mine": {"hs256.key": "x" * 32, "hs256.second.key": "ssh-rsa " + "A" * 32}},
            "KeyUnusable",
            "hs256.second.key",
        ),
        ({"algorithm": "RS256", "jwks": JWKS}, {}, "SecretMissing", "Secret keys does not exist"),
        ({"algorithm": "RS256", "jwks": JWKS}, {"keys": {"other": "{}"}}, "SecretIncomplete", "jwks.json"),
        ({"algorithm": "RS256", "jwks": JWKS}, {"keys": {"jwks.json": "no"}}, "NoJwks", "RFC 7517"),
        ({"algorithm": "RS256", "jwks": JWKS}, {"keys": {"jwks.json": "[" * 9_999}}, "NoJwks", "RFC 7517"),
        ({"algorithm": "RS256", "jwks": JWKS}, {"keys": {"jwks.json": "[]"}}, "NoJwks", "RFC 7517"),
        ({"algorithm": "ES256", "jwks": CA}, {}, "SecretMissing", "Secret ca does not exist"),
        ({"algorithm": "ES256", "jwks": CA}, {"ca": {"ca.crt": "key"}}, "NoCertificates", "PEM"),
    ],
)
async def test_what_is_wrong_with_a_referenced_secret_is_said(
    world: World, auth: dict[str, Any], secrets: dict[str, dict[str, str]], reason: str, says: str
) -> None:
    for name, values in secrets.items():
        metadata = {"name": name, "namespace": NAMESPACE}
        world.kube.put({"kind": "Secret", "metadata": metadata, "data": encode_data(values)})
    world.spec({"gateway": {"auth": auth}})
    await world.look()
    assert world.condition("Ready")["reason"] == reason
    assert says in world.condition("Degraded")["message"]


async def test_good_referenced_secrets_are_no_trouble(world: World) -> None:
    for name, values in (
        ("keys", {"jwks.json": '{"keys": []}'}),
        ("mine", {"hs256.key": "x" * 32, "hs256.second.key": "y" * 32}),
    ):
        metadata = {"name": name, "namespace": NAMESPACE}
        world.kube.put({"kind": "Secret", "metadata": metadata, "data": encode_data(values)})
    for generation, auth in enumerate(({"algorithm": "RS256", "jwks": JWKS}, {"secretRef": {"name": "mine"}}), 4):
        world.spec({"gateway": {"auth": auth}}, generation=generation)
        await world.settle()
        await world.look()
        assert world.condition("Ready")["status"] == "True"
