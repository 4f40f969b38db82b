"""ConfigMap `<cluster>-rabbitmq`: rabbitmq.conf and the plugins."""

from typing import Final

from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES, MAX_SUBSCRIPTION_QUEUES
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec import quantities

AMQP_PORT: Final = 5_672
METRICS_PORT: Final = 15_692
SECRET_DIRECTORY: Final = "/run/pushcluster/rabbitmq"  # noqa: S105  # a path
WATERMARK_PERCENT: Final = 60
"""Publishers are blocked above this part of the memory limit; the rest is for what was under way."""
FREE_DISK_PERCENT: Final = 5
WAL_BYTES: Final = 64 * 1_048_576
"""The log that all quorum queues share, which is held in memory too. RabbitMQ's default of 512 MiB would not fit."""
BASE_BYTES: Final = 160 * 1_048_576
"""An idle broker, with the connections of gateways and dispatchers."""
QUEUE_BYTES: Final = 32 * 1_024
"""A subscription's queue with its binding and its consumer, idle: 24 to 29 KB were measured."""


def build(inputs: Inputs) -> Manifest:
    """Build the ConfigMap, which is mounted as /etc/rabbitmq."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": inputs.metadata(inputs.names.rabbitmq, Component.RABBITMQ),
        "data": {"enabled_plugins": "[rabbitmq_prometheus].\n", "rabbitmq.conf": _configuration(inputs)},
    }


def count_subscription_queues(memory: str) -> int:
    """Return for how many queues of subscriptions a broker with this memory limit has room, in mode Session.

    They get half of what is left below the watermark: gateways that are scaled hold up to twice as many for a moment
    (the gateway's `room.py`), and messages need memory too.
    """
    watermark = quantities.to_bytes(memory) * WATERMARK_PERCENT // 100
    return min(MAX_SUBSCRIPTION_QUEUES, max(0, watermark - BASE_BYTES) // (2 * QUEUE_BYTES))


def _configuration(inputs: Inputs) -> str:
    broker = inputs.cluster.spec.rabbitmq
    memory = quantities.to_bytes(broker.memory)
    free_disk = quantities.to_bytes(broker.storage) * FREE_DISK_PERCENT // 100
    # The memory figures are stated because the broker does not see the container's limit under cgroup v1.
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
        "raft.wal_max_size_bytes": WAL_BYTES,
        # The management agent's own statistics, which Prometheus does not need, take as much memory as queues do.
        "management_agent.disable_metrics_collector": "true",
        "prometheus.tcp.port": METRICS_PORT,
    }
    return "".join(f"{name} = {value}\n" for name, value in settings.items())
