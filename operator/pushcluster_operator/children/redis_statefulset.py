"""StatefulSet `<cluster>-redis`: the users' logs and the registry of sessions."""

from typing import Final

from pushcluster_operator.children import redis_config, redis_secret
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    CONTAINER_SECURITY,
    STORE_UID,
    build_pod_template,
    build_resources,
    from_secret,
    pod_security,
)
from pushcluster_operator.children.store import build_store
from pushcluster_operator.kube.labels import Component, build_labels
from pushcluster_operator.kube.manifest import Manifest, digest
from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.resources import Resources

CPU_REQUEST: Final = "25m"
MEMORY_REQUEST: Final = "32Mi"
BASE_MEMORY_BYTES: Final = 64 * 1_048_576
"""The process itself, and buffers that `maxmemory` does not count."""


def build(inputs: Inputs) -> Manifest:
    """Build the StatefulSet."""
    names, store = inputs.names, inputs.cluster.spec.redis
    ping = {"exec": {"command": ["redis-cli", "-e", "ping"]}, "timeoutSeconds": 3}
    container: Manifest = {
        "name": "redis",
        "image": store.image or inputs.images.redis,
        "imagePullPolicy": "IfNotPresent",
        "command": ["redis-server", f"{redis_config.CONFIG_DIRECTORY}/redis.conf"],
        "env": [from_secret("REDISCLI_AUTH", names.redis, "password")],
        "ports": [{"name": "redis", "containerPort": redis_config.REDIS_PORT, "protocol": "TCP"}],
        "resources": build_resources(Resources(CPU_REQUEST, MEMORY_REQUEST, memory_limit(store.max_memory))),
        "securityContext": CONTAINER_SECURITY,
        # `redis-cli -e` fails while the append-only file is being loaded: not ready, but alive.
        "startupProbe": {**ping, "periodSeconds": 1, "failureThreshold": 600},
        "readinessProbe": {**ping, "periodSeconds": 5, "failureThreshold": 3},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "config", "mountPath": redis_config.CONFIG_DIRECTORY, "readOnly": True},
            {"name": "secret", "mountPath": redis_config.SECRET_DIRECTORY, "readOnly": True},
        ],
    }
    secret_items = [{"key": "auth.conf", "path": "auth.conf"}]
    pod = {
        "securityContext": pod_security(STORE_UID),
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": names.redis}},
            {"name": "secret", "secret": {"secretName": names.redis, "items": secret_items}},
        ],
    }
    checksum = digest(redis_config.build(inputs)["data"], redis_secret.build(inputs)["data"])
    return build_store(
        inputs,
        Component.REDIS,
        name=names.redis,
        service=names.redis,
        storage=store.storage,
        template=build_pod_template(build_labels(inputs.cluster.identity, Component.REDIS), checksum, pod),
    )


def memory_limit(max_memory: str) -> str:
    """Return the container's limit: a rewrite of the append-only file forks, and may copy every page once."""
    mebibytes = -(-(2 * quantities.to_bytes(max_memory) + BASE_MEMORY_BYTES) // 1_048_576)
    return quantities.canonical(f"{mebibytes}Mi")
