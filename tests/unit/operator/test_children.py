"""What the children promise: restricted pods, names and labels in one form, secrets where they belong."""

import base64
import hashlib
import json
from typing import Any

import pytest

from local_run.pods import Children, PodIdentity, read_environment
from pushcluster_contract import env
from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES, SESSIONS_PER_USER
from pushcluster_contract.tokens import HS256_KEY, KEYS_DIRECTORY
from pushcluster_gateway.settings import Settings
from pushcluster_operator import quantities
from pushcluster_operator.children import build_children
from pushcluster_operator.children.redis_statefulset import memory_limit
from pushcluster_operator.credentials import API_KEY, Credentials, hash_password
from pushcluster_operator.manifest import Manifest, decode_data, encode_data
from pushcluster_operator.names import Names
from pushcluster_runtime.settings import Environment
from tests.unit.operator.objects import (
    IMAGES,
    UID,
    children,
    cluster,
    container,
    credentials,
    entropy,
    pod_spec,
)

ALL = children()
WORKLOADS = [name for name in ALL if name.split("/")[0] in {"Deployment", "StatefulSet"}]
PROGRAMS = ["Deployment/demo-gateway", "Deployment/demo-dispatcher"]


def data(name: str, spec: dict[str, Any] | None = None) -> dict[str, str]:
    return decode_data(children(spec)[f"Secret/{name}"])


def environment(workload: Manifest) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(workload)["env"]}


def test_the_same_inputs_give_the_same_children() -> None:
    assert children() == children()


def test_the_whole_cluster_has_these_children() -> None:
    assert sorted(ALL) == [
        "ConfigMap/demo-rabbitmq",
        "ConfigMap/demo-redis",
        "Deployment/demo-dispatcher",
        "Deployment/demo-gateway",
        "PodDisruptionBudget/demo-dispatcher",
        "PodDisruptionBudget/demo-gateway",
        "Secret/demo-api",
        "Secret/demo-connections",
        "Secret/demo-jwt",
        "Secret/demo-producer",
        "Secret/demo-rabbitmq",
        "Secret/demo-redis",
        "Service/demo-dispatcher",
        "Service/demo-gateway",
        "Service/demo-rabbitmq",
        "Service/demo-rabbitmq-nodes",
        "Service/demo-redis",
        "ServiceAccount/demo-dispatcher",
        "ServiceAccount/demo-gateway",
        "StatefulSet/demo-rabbitmq",
        "StatefulSet/demo-redis",
    ]


@pytest.mark.parametrize("name", ALL)
def test_every_child_is_owned_and_labelled(name: str) -> None:
    metadata = ALL[name]["metadata"]
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "PushCluster",
        UID,
        True,
        False,
    )
    assert metadata["labels"]["pushcluster.dev/cluster"] == "demo"
    assert metadata["namespace"] == "team"


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_pod_passes_the_restricted_pod_security_standard(name: str) -> None:
    pod, only = pod_spec(ALL[name]), container(ALL[name])
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    allowed = {"configMap", "secret", "emptyDir", "projected"}
    assert all(volume.keys() - {"name"} <= allowed for volume in pod.get("volumes", []))


@pytest.mark.parametrize("name", WORKLOADS)
def test_selectors_match_the_pods_and_services_find_them(name: str) -> None:
    workload = ALL[name]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = ALL[f"Service/{workload['metadata']['name']}"]
    assert service["spec"]["selector"].items() <= labels.items()
    ports = {port["name"] for port in container(workload)["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("name", WORKLOADS)
def test_quantities_stand_in_the_form_in_which_the_api_server_gives_them_back(name: str) -> None:
    resources = container(ALL[name])["resources"]
    for quantity in (*resources["requests"].values(), *resources["limits"].values()):
        assert quantities.canonical(quantity) == quantity


def test_a_whole_cluster_asks_for_less_than_half_a_core() -> None:
    requests = [
        quantities.parse(container(ALL[name])["resources"]["requests"]["cpu"]) * ALL[name]["spec"]["replicas"]
        for name in WORKLOADS
    ]
    assert sum(requests) < 0.5


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_get_their_settings(name: str) -> None:
    values = environment(ALL[name])
    assert values[env.CLUSTER] == "team.demo"
    assert values[env.POD_UID] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert values[env.REDIS_URL] == {"secretKeyRef": {"name": "demo-connections", "key": "redis-url"}}
    assert values[env.ROUTING_MODE] == "Session"
    assert values[env.RESUME_WINDOW_SECONDS] == "120"


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_secret_stands_in_a_pod_template_or_a_config_map(name: str) -> None:
    values = [value for key in ALL if key.startswith("Secret/") for value in decode_data(ALL[key]).values()]
    secrets = {value for value in values if len(value) == 43}
    assert len(secrets) >= 1
    text = json.dumps([ALL[name], ALL["ConfigMap/demo-rabbitmq"], ALL["ConfigMap/demo-redis"]])
    assert not [secret for secret in secrets if secret in text]


def test_a_roll_takes_no_gateway_away_before_another_is_ready() -> None:
    gateway = ALL["Deployment/demo-gateway"]
    assert gateway["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert pod_spec(gateway)["terminationGracePeriodSeconds"] > 60


@pytest.mark.parametrize("component", ["gateway", "dispatcher"])
def test_a_budget_never_blocks_the_drain_of_a_single_replica(component: str) -> None:
    budget = ALL[f"PodDisruptionBudget/demo-{component}"]["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert f"PodDisruptionBudget/demo-{component}" not in children({component: {"replicas": 1}})


def test_producers_may_write_to_push_and_do_nothing_else() -> None:
    definitions = json.loads(data("demo-rabbitmq")["definitions.json"])
    producer = next(each for each in definitions["permissions"] if each["user"] == "producer")
    assert (producer["configure"], producer["write"], producer["read"]) == ("^$", "^push$", "^$")
    assert [vhost["name"] for vhost in definitions["vhosts"]] == ["team.demo"]
    tags = {user["name"]: user["tags"] for user in definitions["users"]}
    assert tags == {"pushcluster": ["monitoring"], "producer": []}


def test_the_brokers_users_have_the_passwords_of_the_secrets() -> None:
    definitions = json.loads(data("demo-rabbitmq")["definitions.json"])
    hashes = {user["name"]: base64.b64decode(user["password_hash"]) for user in definitions["users"]}
    for user, password in (
        ("pushcluster", data("demo-rabbitmq")["password"]),
        ("producer", data("demo-producer")["password"]),
    ):
        salt, digest = hashes[user][:4], hashes[user][4:]
        assert hashlib.sha256(salt + password.encode()).digest() == digest


def test_the_same_password_of_two_users_has_two_hashes() -> None:
    assert hash_password("p", "a") != hash_password("p", "b")


def test_the_producers_secret_waits_for_its_release() -> None:
    assert "Secret/demo-producer" not in children(producer_released=False)
    assert data("demo-producer")["url"] == (
        f"amqp://producer:{data('demo-producer')['password']}@demo-rabbitmq.team.svc:5672/team.demo"
    )


def test_redis_keeps_everything_or_says_no() -> None:
    conf = ALL["ConfigMap/demo-redis"]["data"]["redis.conf"].splitlines()
    assert {"appendonly yes", "appendfsync always", "maxmemory-policy noeviction", "maxmemory 268435456"} <= set(conf)
    assert data("demo-redis")["auth.conf"] == f'requirepass "{data("demo-redis")["password"]}"\n'


def test_redis_has_room_for_a_rewrite_of_its_file() -> None:
    assert memory_limit("256Mi") == "576Mi"
    assert container(ALL["StatefulSet/demo-redis"])["resources"]["limits"]["memory"] == "576Mi"


def test_the_broker_knows_its_memory_limit() -> None:
    conf = dict(line.split(" = ") for line in ALL["ConfigMap/demo-rabbitmq"]["data"]["rabbitmq.conf"].splitlines())
    limit = quantities.to_bytes(container(ALL["StatefulSet/demo-rabbitmq"])["resources"]["limits"]["memory"])
    assert int(conf["total_memory_available_override_value"]) == limit
    assert int(conf["vm_memory_high_watermark.absolute"]) == limit * 6 // 10
    assert int(conf["max_message_size"]) == BROKER_MAX_MESSAGE_BYTES
    assert int(conf["raft.wal_max_size_bytes"]) * 4 < limit


@pytest.mark.parametrize("name", ["StatefulSet/demo-redis", "StatefulSet/demo-rabbitmq"])
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_volumes_follow_the_deletion_policy(name: str, policy: str) -> None:
    spec = children({"deletionPolicy": policy})[name]["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == policy
    # Else a pod that never became ready would block the update that mends it.
    assert spec["podManagementPolicy"] == "Parallel"


def test_an_image_of_the_spec_comes_before_the_operators() -> None:
    assert container(ALL["Deployment/demo-gateway"])["image"] == "gateway:1"
    chosen = children({"gateway": {"image": "mine:2"}})
    assert container(chosen["Deployment/demo-gateway"])["image"] == "mine:2"
    assert container(chosen["Deployment/demo-dispatcher"])["image"] == "dispatcher:1"


def test_the_authors_key_takes_the_place_of_the_generated_one() -> None:
    chosen = children({"gateway": {"auth": {"secretRef": {"name": "mine"}}}})
    assert "Secret/demo-jwt" not in chosen
    assert auth_sources(chosen) == [
        {
            "name": "mine",
            "optional": True,
            "items": [
                {"key": "hs256.key", "path": "hs256.key"},
                {"key": "hs256.second.key", "path": "hs256.second.key"},
            ],
        }
    ]


def auth_sources(chosen: dict[str, Manifest]) -> list[Manifest]:
    """Return the Secrets that are mounted where a gateway looks for keys."""
    gateway = chosen["Deployment/demo-gateway"]
    (mount,) = container(gateway)["volumeMounts"]
    (volume,) = pod_spec(gateway)["volumes"]
    assert mount == {"name": volume["name"], "mountPath": KEYS_DIRECTORY, "readOnly": True}
    assert volume["projected"]["defaultMode"] == 0o440, "readable for the pod's group alone"
    return [source["secret"] for source in volume["projected"]["sources"]]


def test_no_key_of_tokens_stands_in_an_environment_or_rolls_a_pod() -> None:
    (generated,) = auth_sources(ALL)
    assert generated["name"] == "demo-jwt"
    assert credentials().jwt_key not in json.dumps(ALL["Deployment/demo-gateway"])
    other = {"demo-jwt": {"data": {"hs256.key": base64.b64encode(b"k" * 32).decode()}}}
    rotated = Credentials.recover(Names.of(cluster().identity), other, entropy)
    built = {
        child["kind"] + "/" + child["metadata"]["name"]: child for child in build_children(cluster(), rotated, IMAGES)
    }
    assert built["Secret/demo-jwt"] != ALL["Secret/demo-jwt"]
    assert built["Deployment/demo-gateway"] == ALL["Deployment/demo-gateway"]


def test_an_issuers_address_reaches_the_gateways_with_its_authorities() -> None:
    jwks = {
        "url": "https://issuer.example/keys",
        "caSecretRef": {"name": "ca", "key": "bundle.pem"},
        "refreshSeconds": 60,
    }
    auth = {"algorithm": "RS256", "jwks": jwks, "issuer": "https://issuer.example", "audiences": ["push", "web"]}
    chosen = children({"gateway": {"auth": auth}})
    assert "Secret/demo-jwt" not in chosen
    values = environment(chosen["Deployment/demo-gateway"])
    assert values[env.JWT_ALGORITHM] == "RS256"
    assert values[env.JWKS_URL] == "https://issuer.example/keys"
    assert values[env.JWKS_REFRESH_SECONDS] == "60"
    assert values[env.JWKS_ALLOW_HTTP] == "false"
    assert values[env.JWKS_OWN_CA] == "true"
    assert values[env.JWT_ISSUER] == "https://issuer.example"
    assert values[env.JWT_AUDIENCES] == "push web"
    assert values[env.JWT_REQUIRE_EXPIRY] == "true"
    endless = children({"gateway": {"auth": {"requireExpiry": False}}})
    assert environment(endless["Deployment/demo-gateway"])[env.JWT_REQUIRE_EXPIRY] == "false"
    assert auth_sources(chosen) == [
        {"name": "ca", "optional": True, "items": [{"key": "bundle.pem", "path": "ca.crt"}]}
    ]


@pytest.mark.parametrize("text", ["$(PUSHCLUSTER_REDIS_URL)", "$$(PUSHCLUSTER_REDIS_URL)", "a$b$"])
def test_what_the_author_writes_refers_to_no_other_variable(text: str) -> None:
    jwks = {"url": f"https://issuer.example/{text}"}
    auth = {"algorithm": "RS256", "jwks": jwks, "issuer": text, "audiences": [text]}
    gateway = children({"gateway": {"auth": auth}})["Deployment/demo-gateway"]
    values = environment(gateway)
    written = text.replace("$", "$$")
    assert values[env.JWKS_URL] == f"https://issuer.example/{written}"
    assert values[env.JWT_ISSUER] == values[env.JWT_AUDIENCES] == written
    plain = {"env": [entry for entry in container(gateway)["env"] if "value" in entry]}
    read = read_environment(plain, PodIdentity("demo-gateway-0", "uid", "team"), Children(()))
    assert read[env.JWT_ISSUER] == text


def test_public_keys_in_a_secret_are_mounted() -> None:
    auth = {"algorithm": "ES256", "jwks": {"secretRef": {"name": "issuer", "key": "set"}}}
    chosen = children({"gateway": {"auth": auth}})
    assert auth_sources(chosen) == [
        {"name": "issuer", "optional": True, "items": [{"key": "set", "path": "jwks.json"}]}
    ]
    assert env.JWKS_URL not in environment(chosen["Deployment/demo-gateway"])


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"secretRef": {"name": "mine"}},
        {"mode": "Trusted"},
        {"algorithm": "RS256", "jwks": {"url": "https://issuer.example/keys"}},
        {"algorithm": "RS256", "jwks": {"url": "http://localhost:8080/keys"}},
        {"algorithm": "RS256", "jwks": {"url": "http://issuer.example/keys", "allowHttp": True}},
        {"algorithm": "ES256", "jwks": {"secretRef": {"name": "issuer", "key": "set"}}},
        {"algorithm": "ES256", "jwks": {"url": "https://i/k", "caSecretRef": {"name": "ca", "key": "ca.crt"}}},
    ],
)
def test_gateways_understand_what_the_operator_tells_them(auth: dict[str, Any]) -> None:
    gateway = children({"gateway": {"auth": auth, "allowedOrigins": ["https://A.example:443"]}})[
        "Deployment/demo-gateway"
    ]
    values = {name: value if isinstance(value, str) else "x" for name, value in environment(gateway).items()}
    settings = Settings.parse(Environment(values))
    assert settings.auth.mode == auth.get("mode", "JWT")
    assert settings.auth.algorithm == auth.get("algorithm", "HS256")
    assert settings.auth.jwks_url == auth.get("jwks", {}).get("url", "")
    assert str(settings.auth.keys_directory) == KEYS_DIRECTORY
    assert settings.max_sessions_per_user == SESSIONS_PER_USER
    assert settings.allowed_origins == ("https://a.example",)


def test_trusted_gateways_get_no_key() -> None:
    chosen = children({"gateway": {"auth": {"mode": "Trusted"}}})
    assert "Secret/demo-jwt" not in chosen
    assert "volumes" not in pod_spec(chosen["Deployment/demo-gateway"])


def test_without_the_api_there_is_neither_its_service_nor_its_key() -> None:
    chosen = children({"dispatcher": {"api": {"enabled": False}}})
    assert not {"Service/demo-dispatcher", "Secret/demo-api"} & chosen.keys()
    values = environment(chosen["Deployment/demo-dispatcher"])
    assert values[env.API_ENABLED] == "false"
    assert env.API_KEY not in values


def test_generated_secrets_are_read_back_as_they_are() -> None:
    names = Names.of(cluster().identity)
    live = {name.split("/")[1]: child for name, child in ALL.items() if name.startswith("Secret/")}
    assert Credentials.recover(names, live, lambda size: b"\xff" * size) == credentials()


@pytest.mark.parametrize("held", ["", "short", "with space", "\x00" * 20])
def test_a_value_that_cannot_be_used_is_made_anew(held: str) -> None:
    names = Names.of(cluster().identity)
    broken = {"demo-redis": {"data": {"password": base64.b64encode(held.encode()).decode()}}}
    assert Credentials.recover(names, broken, entropy).redis_password == credentials().redis_password


def test_a_password_with_odd_characters_is_quoted_wherever_it_stands() -> None:
    names, password = Names.of(cluster().identity), 'a/b@c:"d\\e#'
    held = {"demo-redis": {"data": {"password": base64.b64encode(password.encode()).decode()}}}
    built = {
        f"{child['kind']}/{child['metadata']['name']}": child
        for child in build_children(cluster(), Credentials.recover(names, held, entropy), IMAGES)
    }
    assert decode_data(built["Secret/demo-redis"])["auth.conf"] == 'requirepass "a/b@c:\\"d\\\\e#"\n'
    assert "a%2Fb%40c%3A%22d%5Ce%23@" in decode_data(built["Secret/demo-connections"])["redis-url"]


def test_api_keys_may_be_several_while_they_rotate() -> None:
    names = Names.of(cluster().identity)
    secret = {"data": encode_data({API_KEY: "the-old-key\nthe-new-key publish\n"})}
    recovered = Credentials.recover(names, {names.api: secret}, entropy)
    assert recovered.api_key == "the-old-key\nthe-new-key publish\n"


@pytest.mark.parametrize("data", [{}, {API_KEY: ""}, {API_KEY: "\n \n"}, {"another": "the-old-key"}])
def test_an_api_key_is_made_only_where_there_is_none(data: dict[str, str]) -> None:
    names = Names.of(cluster().identity)
    recovered = Credentials.recover(names, {names.api: {"data": encode_data(data)}}, entropy)
    assert recovered.api_key == credentials().api_key


@pytest.mark.parametrize(
    "held", [b"short", b"the-old-key\nthe-new-key publsh\n", b"# ours\nthe-old-key", b"the-old-key\nschl\xfcssel-neu"]
)
def test_api_keys_that_no_dispatcher_can_read_stay_byte_for_byte(held: bytes) -> None:
    names = Names.of(cluster().identity)
    secret = {"data": {API_KEY: base64.b64encode(held).decode()}}
    recovered = Credentials.recover(names, {names.api: secret}, entropy)
    built = build_children(cluster(), recovered, IMAGES)
    kept = next(each for each in built if (each["kind"], each["metadata"]["name"]) == ("Secret", names.api))
    assert kept["data"] == secret["data"]


@pytest.mark.parametrize(
    "held", [b"k" * 32 + b"\n", b"k" * 256, b"schl\xc3\xbcssel" * 8, b"\xff" * 32, b"k k" * 20, b"short"]
)
def test_a_key_of_tokens_that_somebody_wrote_stays_byte_for_byte(held: bytes) -> None:
    names = Names.of(cluster().identity)
    secret = {"data": {HS256_KEY: base64.b64encode(held).decode()}}
    recovered = Credentials.recover(names, {names.jwt: secret}, entropy)
    built = build_children(cluster(), recovered, IMAGES)
    kept = next(each for each in built if (each["kind"], each["metadata"]["name"]) == ("Secret", names.jwt))
    assert kept["data"] == secret["data"]


@pytest.mark.parametrize("data", [{}, {HS256_KEY: ""}, {HS256_KEY: " \n"}, {"another": "k" * 32}])
def test_a_key_of_tokens_is_made_only_where_there_is_none(data: dict[str, str]) -> None:
    names = Names.of(cluster().identity)
    recovered = Credentials.recover(names, {names.jwt: {"data": encode_data(data)}}, entropy)
    assert recovered.jwt_key == credentials().jwt_key


def test_no_secret_shows_in_a_repr() -> None:
    assert credentials().redis_password not in repr(credentials())
