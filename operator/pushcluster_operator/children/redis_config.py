"""ConfigMap `<cluster>-redis`: redis.conf."""

from typing import Final

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec import quantities

REDIS_PORT: Final = 6_379
CONFIG_DIRECTORY: Final = "/etc/pushcluster/redis"
SECRET_DIRECTORY: Final = "/run/pushcluster/redis"  # noqa: S105  # a path

STREAM_NODE_BYTES: Final = 1_024
"""What Redis sets aside for a log's first entry, and again when it is full. Most users' logs hold few messages: with
the usual 4,096 one of 200 B took 4.6 KB instead of 1.5; logs of 100 and more take as much either way."""


def build(inputs: Inputs) -> Manifest:
    """Build the ConfigMap. The password stands in the Secret's file that the last line includes."""
    max_memory = quantities.to_bytes(inputs.cluster.spec.redis.max_memory)
    settings = (
        ("port", REDIS_PORT),
        ("bind", "* -::*"),
        ("protected-mode", "no"),
        ("dir", "/data"),
        # The log of each user is the truth: an entry is on disk before its message is acknowledged.
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("save", '""'),
        # Full memory must stop the producers; evicting entries would lose messages in silence.
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
