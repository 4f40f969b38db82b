"""RabbitMQ: its configuration, Secret, Services and StatefulSet `<cluster>-rabbitmq`."""

import json
from typing import Any, Final

from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES, MAX_SUBSCRIPTION_QUEUES
from pushcluster_contract.topology import PUSH_EXCHANGE
from pushcluster_operator.children import common
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    CONTAINER_SECURITY,
    STORE_UID,
    build_pod_template,
    build_resources,
    empty_dir,
    pod_security,
    variable,
)
from pushcluster_operator.kube.credentials import hash_password
from pushcluster_operator.kube.labels import Component, build_labels, build_selector
from pushcluster_operator.kube.manifest import Manifest, digest
from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.resources import Resources

AMQP_PORT: Final = 5_672
METRICS_PORT: Final = 15_692
SECRET_DIRECTORY: Final = "/run/pushcluster/rabbitmq"  # noqa: S105  # a path
WATERMARK_PERCENT: Final = 60
"""Above this part of the memory limit, the broker blocks publishers. The rest is for messages already under way."""
FREE_DISK_PERCENT: Final = 5
WAL_BYTES: Final = 64 * 1_048_576
"""The log that all quorum queues share. It is held in memory too, where RabbitMQ's default of 512 MiB would not fit.

`raft.wal_max_size_bytes` has no effect on quorum queues in RabbitMQ 4.3 (seen on 4.3.6).
"""
BASE_BYTES: Final = 160 * 1_048_576
"""An idle broker, with the connections of gateways and dispatchers."""
QUEUE_BYTES: Final = 32 * 1_024
"""One idle subscription queue with its binding and consumer. 24 to 29 KB were measured."""
INTERNAL_USER: Final = "pushcluster"
"""The user of gateways, of dispatchers, and of people who inspect the broker."""
PRODUCER_USER: Final = "producer"
"""May publish to `push`, and nothing else."""
CPU_REQUEST: Final = "50m"
MEMORY_REQUEST: Final = "192Mi"

# The cookie is copied, because Erlang refuses a cookie that others may read, and a mounted Secret is group-readable.
# The node's name comes from the pod's own full name, whatever the Kubernetes cluster's domain is.
_START: Final = f"""umask 077
cp -f {SECRET_DIRECTORY}/erlang-cookie /var/lib/rabbitmq/.erlang.cookie
chmod 0600 /var/lib/rabbitmq/.erlang.cookie
RABBITMQ_NODENAME="rabbit@$(hostname -f)"
export RABBITMQ_NODENAME
exec rabbitmq-server
"""


def build_config(inputs: Inputs) -> Manifest:
    """Build the ConfigMap, which is mounted as /etc/rabbitmq."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": inputs.metadata(inputs.names.rabbitmq, Component.RABBITMQ),
        "data": {"enabled_plugins": "[rabbitmq_prometheus].\n", "rabbitmq.conf": _configuration(inputs)},
    }


def count_subscription_queues(memory: str) -> int:
    """Return how many subscription queues a broker with this memory limit can hold, in mode Session.

    The queues get half of the memory below the watermark. While gateways are scaled, they hold up to twice as many for
    a moment (the gateway's `broker/queue_quota.py`), and messages need memory too.
    """
    watermark = quantities.to_bytes(memory) * WATERMARK_PERCENT // 100
    return min(MAX_SUBSCRIPTION_QUEUES, max(0, watermark - BASE_BYTES) // (2 * QUEUE_BYTES))


def _configuration(inputs: Inputs) -> str:
    broker = inputs.cluster.spec.rabbitmq
    memory = quantities.to_bytes(broker.memory)
    free_disk = quantities.to_bytes(broker.storage) * FREE_DISK_PERCENT // 100
    # The memory is stated explicitly, because under cgroup v1 the broker does not see the container's limit.
    settings = {
        "listeners.tcp.default": AMQP_PORT,
        "load_definitions": f"{SECRET_DIRECTORY}/definitions.json",
        "anonymous_login_user": "none",
        "log.file": "false",
        "log.console": "true",
        "log.console.level": "info",
        "total_memory_available_override_value": memory,
        "vm_memory_high_watermark.absolute": memory * WATERMARK_PERCENT // 100,
        "disk_free_limit.absolute": free_disk,
        "max_message_size": BROKER_MAX_MESSAGE_BYTES,
        "quorum_queue.wal_max_size_bytes": WAL_BYTES,
        # Prometheus does not need the management agent's own statistics, which take as much memory as the queues.
        "management_agent.disable_metrics_collector": "true",
        "prometheus.tcp.port": METRICS_PORT,
    }
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def build_secret(inputs: Inputs) -> Manifest:
    """Build the Secret. `username` and `password` belong to the internal user."""
    credentials = inputs.credentials
    return common.build_secret(
        inputs,
        inputs.names.rabbitmq,
        Component.RABBITMQ,
        {
            "erlang-cookie": credentials.erlang_cookie,
            "username": INTERNAL_USER,
            "password": credentials.rabbitmq_password,
            "producer-password": credentials.producer_password,
            "definitions.json": json.dumps(_definitions(inputs), indent=1, sort_keys=True),
        },
    )


def _definitions(inputs: Inputs) -> dict[str, Any]:
    """Return users, vhost and permissions. The dispatchers declare exchanges and queues."""
    credentials, vhost = inputs.credentials, inputs.cluster.identity.id
    return {
        "vhosts": [{"name": vhost, "metadata": {"default_queue_type": "quorum"}}],
        "users": [
            _user(INTERNAL_USER, credentials.rabbitmq_password, ["monitoring"]),
            _user(PRODUCER_USER, credentials.producer_password, []),
        ],
        "permissions": [
            {"user": INTERNAL_USER, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"},
            {"user": PRODUCER_USER, "vhost": vhost, "configure": "^$", "write": f"^{PUSH_EXCHANGE}$", "read": "^$"},
        ],
    }


def _user(name: str, password: str, tags: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": hash_password(password, name),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
        "limits": {},
    }


def build_nodes_service(inputs: Inputs) -> Manifest:
    """Build the headless Service `<cluster>-rabbitmq-nodes`. It gives a node the name that its data belongs to.

    Addresses are published before the node is ready, because it must resolve its own name to start.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": inputs.metadata(inputs.names.rabbitmq_nodes, Component.RABBITMQ),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": build_selector(inputs.cluster.identity, Component.RABBITMQ),
            "ports": [
                {"name": "epmd", "port": 4369, "targetPort": 4369, "protocol": "TCP"},
                {"name": "distribution", "port": 25672, "targetPort": 25672, "protocol": "TCP"},
            ],
        },
    }


def build_service(inputs: Inputs) -> Manifest:
    """Build the Service: AMQP for gateways, dispatchers and producers."""
    ports = {"amqp": (AMQP_PORT, "amqp"), "metrics": (METRICS_PORT, "metrics")}
    return common.build_service(inputs, inputs.names.rabbitmq, Component.RABBITMQ, ports)


def build_statefulset(inputs: Inputs) -> Manifest:
    """Build the StatefulSet."""
    names, broker = inputs.names, inputs.cluster.spec.rabbitmq
    container: Manifest = {
        "name": "rabbitmq",
        "image": broker.image or inputs.images.rabbitmq,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-ec", _START],
        "env": [
            variable("HOME", "/var/lib/rabbitmq"),
            variable("RABBITMQ_USE_LONGNAME", "true"),
            # Schedulers without work sleep at once, so that an idle broker costs no CPU.
            variable("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none"),
        ],
        "ports": [
            {"name": "amqp", "containerPort": AMQP_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": build_resources(Resources(CPU_REQUEST, MEMORY_REQUEST, broker.memory)),
        "securityContext": CONTAINER_SECURITY,
        # The probes open a socket, because each of RabbitMQ's own commands would start an Erlang virtual machine.
        "startupProbe": {"tcpSocket": {"port": "amqp"}, "periodSeconds": 1, "failureThreshold": 600},
        "readinessProbe": {"tcpSocket": {"port": "amqp"}, "periodSeconds": 2, "failureThreshold": 3},
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/rabbitmq"},
            {"name": "config", "mountPath": "/etc/rabbitmq", "readOnly": True},
            {"name": "secret", "mountPath": SECRET_DIRECTORY, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # inside the container
            {"name": "log", "mountPath": "/var/log/rabbitmq"},
        ],
    }
    secret_items = [{"key": key, "path": key} for key in ("erlang-cookie", "definitions.json")]
    pod = {
        "securityContext": pod_security(STORE_UID),
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": names.rabbitmq}},
            {"name": "secret", "secret": {"secretName": names.rabbitmq, "items": secret_items}},
            empty_dir("tmp"),
            empty_dir("log"),
        ],
    }
    checksum = digest(build_config(inputs)["data"], build_secret(inputs)["data"])
    return common.build_store(
        inputs,
        Component.RABBITMQ,
        name=names.rabbitmq,
        service=names.rabbitmq_nodes,
        storage=broker.storage,
        template=build_pod_template(build_labels(inputs.cluster.identity, Component.RABBITMQ), checksum, pod),
    )
