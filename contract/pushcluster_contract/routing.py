"""How a message is routed: the modes, the routing key, and which copies step D4 sends."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation, check_session_id

DEFAULT_EXCHANGE: Final = ""
TOPIC_EXCHANGE: Final = "amq.topic"
BROADCAST_EXCHANGE: Final = "push.broadcast"
SUBSCRIPTION_QUEUE_PREFIX: Final = "stomp-subscription-"


class RoutingMode(StrEnum):
    """`spec.routing.mode`."""

    SESSION = "Session"
    GATEWAY = "Gateway"
    BROADCAST = "Broadcast"


def session_key(name: str, sid: str) -> str:
    """Return the routing key of scheme 3, `<name>-user<sid>`: `session_key("demo", sid)`."""
    return f"{name}-user{check_session_id(sid)}"


def subscription_queue(unique: str) -> str:
    """Return the name of one subscription's queue."""
    return f"{SUBSCRIPTION_QUEUE_PREFIX}{unique}"


def gateway_queue(incarnation: Incarnation) -> str:
    """Return the name of a gateway process's own queue (scheme 2, and what scheme 3 falls back to)."""
    return f"pushcluster.gateway.{incarnation}"


class Copy(NamedTuple):
    """Where one copy goes (step D4); `fallback` is tried when the broker returns it as unroutable."""

    exchange: str
    routing_key: str
    fallback: "Copy | None" = None


def plan_copies(mode: RoutingMode, destination: Destination, subscribed: Mapping[str, Incarnation]) -> tuple[Copy, ...]:
    """Decide step D4 for one message: the only place where the three modes differ.

    `subscribed` maps session ids of the addressed user which have this destination to their gateways. None: no copy,
    except in Broadcast, where the dispatcher asks nobody who is where.
    """
    if mode is RoutingMode.BROADCAST:
        return (Copy(BROADCAST_EXCHANGE, ""),)
    if mode is RoutingMode.GATEWAY:
        return tuple(map(_to_gateway, dict.fromkeys(subscribed.values())))
    return tuple(
        Copy(TOPIC_EXCHANGE, session_key(destination.name, sid), _to_gateway(incarnation))
        for sid, incarnation in subscribed.items()
    )


def _to_gateway(incarnation: Incarnation) -> Copy:
    return Copy(DEFAULT_EXCHANGE, gateway_queue(incarnation))
