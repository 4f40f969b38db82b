"""What the author of a PushCluster asks for: the one place where its JSON is read.

`crds/pushcluster.yaml` states the same fields, defaults and bounds for the API server; a test holds the two together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from pushcluster_contract import defaults
from pushcluster_contract.routing import RoutingMode
from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.gateway import Gateway
from pushcluster_operator.spec.reader import Reader
from pushcluster_operator.spec.resources import Resources, read_image

MAX_CLUSTER_NAME_CHARS: Final = 40
"""Leaves space for what is appended to the name: `-rabbitmq`, a pod's ordinal and the controllers' hashes."""
REDIS_STORAGE_PER_MEMORY: Final = 3
"""For the append-only file, its copy during a rewrite, and what is written meanwhile."""

_NAME: Final = r"[a-z]([-a-z0-9]*[a-z0-9])?"


class DeletionPolicy(StrEnum):
    """`spec.deletionPolicy`: what becomes of the volumes when the PushCluster is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


DISPATCHER_RESOURCES: Final = Resources(cpu_request="50m", memory_request="64Mi", memory_limit="256Mi")


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """`spec.dispatcher`."""

    replicas: int
    api_enabled: bool
    image: str | None
    resources: Resources

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one; raises InvalidSpec."""
        api = reader.child("api")
        dispatcher = cls(
            replicas=reader.integer("replicas", 2, minimum=0, maximum=16),
            api_enabled=api.boolean("enabled", default=True),
            image=read_image(reader),
            resources=Resources.read(reader.child("resources"), DISPATCHER_RESOURCES),
        )
        api.finish()
        reader.finish()
        return dispatcher


@dataclass(frozen=True, slots=True)
class ManagedRabbitMQ:
    """`spec.rabbitmq.managed`."""

    replicas: int
    storage: str
    memory: str
    image: str | None

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one; raises InvalidSpec."""
        managed = cls(
            replicas=reader.integer("replicas", 1, minimum=1, maximum=1),
            storage=reader.quantity("storage", "8Gi"),
            memory=reader.quantity("memory", "1Gi", minimum="256Mi"),
            image=read_image(reader),
        )
        reader.finish()
        return managed


@dataclass(frozen=True, slots=True)
class ManagedRedis:
    """`spec.redis.managed`."""

    storage: str
    max_memory: str
    image: str | None

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one; raises InvalidSpec."""
        managed = cls(
            storage=reader.quantity("storage", "2Gi"),
            max_memory=reader.quantity("maxMemory", "256Mi", minimum="16Mi"),
            image=read_image(reader),
        )
        reader.finish()
        if quantities.parse(managed.storage) < REDIS_STORAGE_PER_MEMORY * quantities.parse(managed.max_memory):
            raise InvalidSpec(
                f"{reader.path}.storage ({managed.storage}) must be at least {REDIS_STORAGE_PER_MEMORY} times "
                f"maxMemory ({managed.max_memory}), because Redis writes a new append-only file beside the old one"
            )
        return managed


@dataclass(frozen=True, slots=True)
class Delivery:
    """`spec.delivery`."""

    offline_ttl_seconds: int
    offline_max_per_destination: int
    resume_window_seconds: int
    idempotency_window_seconds: int

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one; raises InvalidSpec."""
        offline, resume, idempotency = map(reader.child, ("offline", "resume", "idempotency"))
        delivery = cls(
            offline_ttl_seconds=offline.integer("ttlSeconds", defaults.OFFLINE_TTL_S, minimum=60, maximum=2_592_000),
            offline_max_per_destination=offline.integer(
                "maxPerDestination", defaults.OFFLINE_MAX_PER_DESTINATION, minimum=1, maximum=100_000
            ),
            resume_window_seconds=resume.integer("windowSeconds", defaults.RESUME_WINDOW_S, minimum=0, maximum=86_400),
            idempotency_window_seconds=idempotency.integer(
                "windowSeconds", defaults.IDEMPOTENCY_WINDOW_S, minimum=60, maximum=86_400
            ),
        )
        for part in (offline, resume, idempotency, reader):
            part.finish()
        if delivery.resume_window_seconds > delivery.offline_ttl_seconds:
            raise InvalidSpec(
                f"{reader.path}.resume.windowSeconds ({delivery.resume_window_seconds}) must not be more than "
                f"offline.ttlSeconds ({delivery.offline_ttl_seconds}), because nothing is kept longer. "
                f"Its default is {defaults.RESUME_WINDOW_S}, so set it too when ttlSeconds is less"
            )
        return delivery


@dataclass(frozen=True, slots=True)
class PushClusterSpec:
    """`spec`, with every default filled in."""

    routing_mode: RoutingMode
    gateway: Gateway
    dispatcher: Dispatcher
    rabbitmq: ManagedRabbitMQ
    redis: ManagedRedis
    delivery: Delivery
    deletion_policy: DeletionPolicy

    @classmethod
    def from_body(cls, body: Mapping[str, Any], unknown: list[str] | None = None) -> Self:
        """Return the `spec` of a PushCluster as the API server (or a YAML file) has it. Raise InvalidSpec.

        Unknown fields are refused. With a list for `unknown`, their paths are added to it instead.
        """
        reader = Reader(body.get("spec"), "spec", unknown)
        routing, rabbitmq, redis = reader.child("routing"), reader.child("rabbitmq"), reader.child("redis")
        spec = cls(
            routing_mode=routing.choice("mode", RoutingMode.SESSION, RoutingMode),
            gateway=Gateway.read(reader.child("gateway")),
            dispatcher=Dispatcher.read(reader.child("dispatcher")),
            rabbitmq=ManagedRabbitMQ.read(rabbitmq.child("managed")),
            redis=ManagedRedis.read(redis.child("managed")),
            delivery=Delivery.read(reader.child("delivery")),
            deletion_policy=reader.choice("deletionPolicy", DeletionPolicy.RETAIN, DeletionPolicy),
        )
        for part in (routing, rabbitmq, redis, reader):
            part.finish()
        return spec


def check_name(name: str) -> str:
    """Return the name of a PushCluster. Raise InvalidSpec if its children's names cannot be made from it."""
    if len(name) > MAX_CLUSTER_NAME_CHARS or not re.fullmatch(_NAME, name):
        raise InvalidSpec(
            f"metadata.name {name!r} must have at most {MAX_CLUSTER_NAME_CHARS} characters of a-z 0-9 and -, "
            "begin with a letter and not end in -, because the names of Services and pods are made from it"
        )
    return name
