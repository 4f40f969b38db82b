"""RabbitMQ and Redis as the operator makes them: who may do what, what is kept, and within which bounds."""

import base64
import hashlib
import json
from typing import Any

import pytest

from pushcluster_contract import env
from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES, MIN_OUTBOXES_BYTES, UNAUTHENTICATED_BYTES
from pushcluster_operator.children.rabbitmq import BASE_BYTES, QUEUE_BYTES
from pushcluster_operator.children.redis import memory_limit
from pushcluster_operator.kube.credentials import hash_password
from pushcluster_operator.kube.manifest import decode_data
from pushcluster_operator.spec import quantities
from tests.unit.operator.objects import (
    children,
    container,
    environment,
)

ALL = children()


def data(name: str, spec: dict[str, Any] | None = None) -> dict[str, str]:
    return decode_data(children(spec)[f"Secret/{name}"])


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


def test_redis_never_evicts_and_refuses_messages_when_it_is_full() -> None:
    conf = ALL["ConfigMap/demo-redis"]["data"]["redis.conf"].splitlines()
    assert {"appendonly yes", "appendfsync always", "maxmemory-policy noeviction", "maxmemory 268435456"} <= set(conf)
    assert data("demo-redis")["auth.conf"] == f'requirepass "{data("demo-redis")["password"]}"\n'


def test_redis_sets_little_aside_for_a_log_that_has_just_begun() -> None:
    assert "stream-node-max-bytes 1024" in ALL["ConfigMap/demo-redis"]["data"]["redis.conf"].splitlines()


def test_redis_has_room_for_a_rewrite_of_its_file() -> None:
    assert memory_limit("256Mi") == "576Mi"
    assert container(ALL["StatefulSet/demo-redis"])["resources"]["limits"]["memory"] == "576Mi"


def test_the_broker_knows_its_memory_limit() -> None:
    conf = dict(line.split(" = ") for line in ALL["ConfigMap/demo-rabbitmq"]["data"]["rabbitmq.conf"].splitlines())
    limit = quantities.to_bytes(container(ALL["StatefulSet/demo-rabbitmq"])["resources"]["limits"]["memory"])
    assert int(conf["total_memory_available_override_value"]) == limit
    assert int(conf["vm_memory_high_watermark.absolute"]) == limit * 6 // 10
    assert conf["management_agent.disable_metrics_collector"] == "true", "it takes as much memory as queues do"
    assert int(conf["max_message_size"]) == BROKER_MAX_MESSAGE_BYTES
    assert int(conf["quorum_queue.wal_max_size_bytes"]) * 4 < limit


@pytest.mark.parametrize("name", ["StatefulSet/demo-redis", "StatefulSet/demo-rabbitmq"])
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_volumes_follow_the_deletion_policy(name: str, policy: str) -> None:
    spec = children({"deletionPolicy": policy})[name]["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == policy
    # Else a pod that never became ready would block the update that mends it.
    assert spec["podManagementPolicy"] == "Parallel"


@pytest.mark.parametrize(
    ("memory", "queues"), [("256Mi", 0), ("512Mi", 2_355), ("1Gi", 7_270), ("4Gi", 36_761), ("1000Gi", 1_000_000)]
)
def test_queues_of_subscriptions_have_room_below_the_watermark_even_twice(memory: str, queues: int) -> None:
    made = children({"rabbitmq": {"managed": {"memory": memory}}})
    assert int(environment(made["Deployment/demo-gateway"])[env.SUBSCRIPTION_QUEUES]) == queues
    conf = dict(line.split(" = ") for line in made["ConfigMap/demo-rabbitmq"]["data"]["rabbitmq.conf"].splitlines())
    assert not queues or 2 * queues * QUEUE_BYTES + BASE_BYTES <= int(conf["vm_memory_high_watermark.absolute"])


@pytest.mark.parametrize(
    ("memory", "connections", "outboxes"),
    [("512Mi", 20_000, 136_183_808), ("288Mi", 20_480, MIN_OUTBOXES_BYTES), ("128Mi", 20_480, MIN_OUTBOXES_BYTES)],
)
def test_what_waits_for_all_clients_has_memory_beside_the_idle_ones(
    memory: str, connections: int, outboxes: int
) -> None:
    gateway = {
        "maxConnections": connections,
        "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": memory}},
    }
    made = children({"gateway": gateway})
    assert int(environment(made["Deployment/demo-gateway"])[env.OUTBOXES_BYTES]) == outboxes
    needed = 64 * 1_048_576 + connections * 8_192 + UNAUTHENTICATED_BYTES
    assert outboxes == MIN_OUTBOXES_BYTES or needed + 2 * outboxes <= quantities.to_bytes(memory)


def test_scaling_gateways_restarts_none() -> None:
    """What they share is the cluster's: each takes its part by how many it finds."""
    pods = [children({"gateway": {"replicas": n}})["Deployment/demo-gateway"]["spec"]["template"] for n in (2, 50)]
    assert pods[0] == pods[1]
