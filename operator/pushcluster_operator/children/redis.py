"""Redis: its configuration, Secret, Service and StatefulSet, all named `<cluster>-redis`."""

from typing import Final

from pushcluster_operator.children import common
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    CONTAINER_SECURITY,
    STORE_UID,
    build_pod_template,
    build_resources,
    from_secret,
    pod_security,
)
from pushcluster_operator.kube.labels import Component, build_labels
from pushcluster_operator.kube.manifest import Manifest, digest
from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.resources import Resources

REDIS_PORT: Final = 6_379
CONFIG_DIRECTORY: Final = "/etc/pushcluster/redis"
SECRET_DIRECTORY: Final = "/run/pushcluster/redis"  # noqa: S105  # a path

STREAM_NODE_BYTES: Final = 1_024
"""How much Redis allocates for a log's first entry, and again whenever that is full. Most users' logs hold few
messages: with the usual 4,096, one message of 200 B took 4.6 KB instead of 1.5. Logs of 100 messages and more take the
same either way."""
CPU_REQUEST: Final = "25m"
MEMORY_REQUEST: Final = "32Mi"
BASE_MEMORY_BYTES: Final = 64 * 1_048_576
"""Memory of the process itself, and of buffers that `maxmemory` does not count."""


def build_config(inputs: Inputs) -> Manifest:
    """Build the ConfigMap. Its last line includes the Secret's file, which has the password."""
    max_memory = quantities.to_bytes(inputs.cluster.spec.redis.max_memory)
    settings = (
        ("port", REDIS_PORT),
        ("bind", "* -::*"),
        ("protected-mode", "no"),
        ("dir", "/data"),
        # Each user's log is the truth, so an entry must be on disk before its message is acknowledged.
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("save", '""'),
        # When memory is full, producers must stop. To evict entries would lose messages silently.
        ("maxmemory", max_memory),
        ("maxmemory-policy", "noeviction"),
        ("stream-node-max-bytes", STREAM_NODE_BYTES),
        ("tcp-keepalive", 60),
        ("include", f"{SECRET_DIRECTORY}/auth.conf"),
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": inputs.metadata(inputs.names.redis, Component.REDIS),
        "data": {"redis.conf": "".join(f"{name} {value}\n" for name, value in settings)},
    }


def build_secret(inputs: Inputs) -> Manifest:
    """Build the Secret."""
    password = inputs.credentials.redis_password
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    values = {"password": password, "auth.conf": f'requirepass "{quoted}"\n'}
    return common.build_secret(inputs, inputs.names.redis, Component.REDIS, values)


def build_service(inputs: Inputs) -> Manifest:
    """Build the Service. Its address stays the same when the pod gets a new one."""
    return common.build_service(inputs, inputs.names.redis, Component.REDIS, {"redis": (REDIS_PORT, "redis")})


def build_statefulset(inputs: Inputs) -> Manifest:
    """Build the StatefulSet."""
    names, store = inputs.names, inputs.cluster.spec.redis
    ping = {"exec": {"command": ["redis-cli", "-e", "ping"]}, "timeoutSeconds": 3}
    container: Manifest = {
        "name": "redis",
        "image": store.image or inputs.images.redis,
        "imagePullPolicy": "IfNotPresent",
        "command": ["redis-server", f"{CONFIG_DIRECTORY}/redis.conf"],
        "env": [from_secret("REDISCLI_AUTH", names.redis, "password")],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT, "protocol": "TCP"}],
        "resources": build_resources(Resources(CPU_REQUEST, MEMORY_REQUEST, memory_limit(store.max_memory))),
        "securityContext": CONTAINER_SECURITY,
        # `redis-cli -e` fails while Redis loads its append-only file. The pod is then alive, but not ready.
        "startupProbe": {**ping, "periodSeconds": 1, "failureThreshold": 600},
        "readinessProbe": {**ping, "periodSeconds": 5, "failureThreshold": 3},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            {"name": "secret", "mountPath": SECRET_DIRECTORY, "readOnly": True},
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
    checksum = digest(build_config(inputs)["data"], build_secret(inputs)["data"])
    return common.build_store(
        inputs,
        Component.REDIS,
        name=names.redis,
        service=names.redis,
        storage=store.storage,
        template=build_pod_template(build_labels(inputs.cluster.identity, Component.REDIS), checksum, pod),
    )


def memory_limit(max_memory: str) -> str:
    """Return the container's memory limit: twice `max_memory` and a base.

    To rewrite its append-only file Redis forks, and may copy every page once.
    """
    mebibytes = -(-(2 * quantities.to_bytes(max_memory) + BASE_MEMORY_BYTES) // 1_048_576)
    return quantities.canonical(f"{mebibytes}Mi")
