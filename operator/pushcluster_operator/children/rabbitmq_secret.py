"""Secret `<cluster>-rabbitmq`: the broker's cookie, its two users, and the definitions that it loads at each start."""

import json
from typing import Any, Final

from pushcluster_contract.topology import PUSH_EXCHANGE
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.secret import build_secret
from pushcluster_operator.kube.credentials import hash_password
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest

INTERNAL_USER: Final = "pushcluster"
"""Gateways, dispatchers and people who look into the broker."""
PRODUCER_USER: Final = "producer"
"""May publish to `push`, and nothing else."""


def build(inputs: Inputs) -> Manifest:
    """Build the Secret. `username` and `password` are the internal user's."""
    credentials = inputs.credentials
    return build_secret(
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
    """Return users, vhost and permissions; exchanges and queues are declared by the dispatchers."""
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
