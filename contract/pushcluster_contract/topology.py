"""The exchanges, queues and bindings in the cluster's vhost, as data that the programs declare."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.ids import Incarnation
from pushcluster_contract.limits import (
    GATEWAY_QUEUE_MAX_BYTES,
    GATEWAY_QUEUE_MAX_MESSAGES,
    INGRESS_PARTITIONS,
    INGRESS_QUEUE_MAX_BYTES,
    REFUSED_QUEUE_MAX_BYTES,
    REFUSED_QUEUE_MAX_MESSAGES,
    REJECTED_QUEUE_MAX_BYTES,
    REJECTED_QUEUE_MAX_MESSAGES,
    REPLY_QUEUE_MAX_BYTES,
    REPLY_QUEUE_MAX_MESSAGES,
    SUBSCRIPTION_QUEUE_MAX_BYTES,
    SUBSCRIPTION_QUEUE_MAX_MESSAGES,
)
from pushcluster_contract.routing import BROADCAST_EXCHANGE, gateway_queue, subscription_queue

PUSH_EXCHANGE: Final = "push"
REJECTED_EXCHANGE: Final = "push.rejected"
REJECTED_QUEUE: Final = "push.rejected"
"""Messages that dispatchers or the broker could not pass on. Gateways of version 0.2 put refused ones here too."""
REFUSED_QUEUE: Final = "push.refused"
"""Copies of messages that clients refused. It has no exchange: gateways publish to it by its name."""

Argument = str | int | bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, or one that is exclusive to its connection."""

    name: str
    arguments: Mapping[str, Argument]
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of a queue to an exchange."""

    exchange: str
    queue: str
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """What to declare, in this order: exchanges, queues, bindings. Declaring again what exists changes nothing."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def ingress_queue(partition: int) -> str:
    """Return the queue of ingress partition 0 to 15."""
    return f"pushcluster.ingress.{partition:02d}"


def build_topology() -> Topology:
    """Return the durable part, which is the same in every mode."""
    published, partitions = build_publish_targets(), [build_partition(n) for n in range(INGRESS_PARTITIONS)]
    return Topology(
        exchanges=published.exchanges,
        queues=(*published.queues, build_refused_queue(), *(queue for each in partitions for queue in each.queues)),
        bindings=(*published.bindings, *(binding for each in partitions for binding in each.bindings)),
    )


def build_publish_targets() -> Topology:
    """Return what dispatchers publish to: the exchanges, and the queue of rejected messages."""
    return Topology(
        exchanges=(
            Exchange(REJECTED_EXCHANGE, "fanout"),
            Exchange(BROADCAST_EXCHANGE, "fanout"),
            _PUSH,
        ),
        queues=(Queue(REJECTED_QUEUE, _keep_newest(REJECTED_QUEUE_MAX_MESSAGES, REJECTED_QUEUE_MAX_BYTES)),),
        bindings=(Binding(REJECTED_EXCHANGE, REJECTED_QUEUE),),
    )


def build_refused_queue() -> Queue:
    """Return the queue of messages that clients refused."""
    return Queue(REFUSED_QUEUE, _keep_newest(REFUSED_QUEUE_MAX_MESSAGES, REFUSED_QUEUE_MAX_BYTES))


def build_partition(number: int) -> Topology:
    """Return the exchange, queue and binding of one ingress partition, 0 to 15."""
    name = ingress_queue(number)
    return Topology((_PUSH,), (Queue(name, _INGRESS_ARGUMENTS),), (Binding(PUSH_EXCHANGE, name),))


def build_gateway_queue(incarnation: Incarnation) -> tuple[Queue, Binding]:
    """Return a gateway's own queue and its binding to the broadcast exchange."""
    name = gateway_queue(incarnation)
    queue = Queue(name, _drop_oldest(GATEWAY_QUEUE_MAX_MESSAGES, GATEWAY_QUEUE_MAX_BYTES), exclusive=True)
    return queue, Binding(BROADCAST_EXCHANGE, name)


def build_subscription_queue(unique: str) -> Queue:
    """Return the queue of one subscription, in mode Session."""
    arguments = _drop_oldest(SUBSCRIPTION_QUEUE_MAX_MESSAGES, SUBSCRIPTION_QUEUE_MAX_BYTES)
    return Queue(subscription_queue(unique), arguments, exclusive=True)


def build_reply_queue(unique: str) -> Queue:
    """Return the queue on which one dispatcher's HTTP API gets outcomes."""
    return Queue(f"replies.{unique}", _drop_oldest(REPLY_QUEUE_MAX_MESSAGES, REPLY_QUEUE_MAX_BYTES), exclusive=True)


def consumer_priority(pod: str, partition: int) -> int:
    """Return 0 to 32767. A quorum queue makes the consumer with the highest priority its single active consumer.

    The priority is a hash of both, so that partitions spread over dispatchers without any coordination.
    """
    return int.from_bytes(hashlib.sha256(f"{pod}/{partition}".encode()).digest()[:2]) >> 1


_PUSH: Final = Exchange(PUSH_EXCHANGE, "x-modulus-hash", {"alternate-exchange": REJECTED_EXCHANGE})
# No delivery limit: with the default of 20, confirmed messages would be deleted after 20 dispatcher crashes.
_INGRESS_ARGUMENTS: Final[Mapping[str, Argument]] = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    "x-delivery-limit": -1,
    "x-max-length-bytes": INGRESS_QUEUE_MAX_BYTES,
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": REJECTED_EXCHANGE,
    "x-dead-letter-strategy": "at-least-once",
}


def _keep_newest(max_messages: int, max_bytes: int) -> Mapping[str, Argument]:
    """Return the arguments of a durable queue that a person reads."""
    return {**_drop_oldest(max_messages, max_bytes), "x-queue-type": "quorum"}


def _drop_oldest(max_messages: int, max_bytes: int) -> Mapping[str, Argument]:
    return {
        "x-queue-type": "classic",
        "x-max-length": max_messages,
        "x-max-length-bytes": max_bytes,
        "x-overflow": "drop-head",
    }
