"""How a message is routed: the modes, the routing keys, and the copies that a dispatcher sends."""

from collections import Counter
from collections.abc import Container, Mapping
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


def session_key(destination_name: str, sid: str) -> str:
    """Return the routing key of a session's queues in mode Session: `<name>-user<sid>`.

    `destination_name` is `demo` for the destinations `/queue/demo` and `/topic/demo`, which share a key.
    """
    return f"{destination_name}-user{check_session_id(sid)}"


def subscription_queue(unique: str) -> str:
    """Return the name of one subscription's queue."""
    return f"{SUBSCRIPTION_QUEUE_PREFIX}{unique}"


def gateway_queue(incarnation: Incarnation) -> str:
    """Return the name of a gateway process's own queue: used in mode Gateway, and as the fallback in mode Session."""
    return f"pushcluster.gateway.{incarnation}"


class Copy(NamedTuple):
    """Where a dispatcher sends one copy. It tries `fallback` when the broker returns the copy as unroutable."""

    exchange: str
    routing_key: str
    fallback: "Copy | None" = None


def plan_copies(
    mode: RoutingMode,
    destination: Destination,
    subscribed: Mapping[str, Incarnation],
    without_queue: Container[str] = (),
) -> tuple[Copy, ...]:
    """Return the copies to send for one message. In the dispatcher, the three modes differ only here.

    `subscribed` maps the user's sessions that have this destination to their gateways. If it is empty, there is no
    copy, except in mode Broadcast: there the dispatcher does not look at sessions. `without_queue` has those of them
    that have no queue of their own for it, in mode Session (`session_entry.SessionEntry.without_queue`).

    In mode Session, a gateway that holds several of these sessions gets one copy on its own queue, as in mode Gateway.
    So a user with many sessions costs as many copies as gateways, and not a copy for each session.
    """
    if mode is RoutingMode.BROADCAST:
        return (Copy(BROADCAST_EXCHANGE, ""),)
    if mode is RoutingMode.GATEWAY:
        return tuple(map(_to_gateway, dict.fromkeys(subscribed.values())))
    at_gateway = Counter(subscribed.values())
    copies = (
        _to_gateway(incarnation)
        if sid in without_queue or at_gateway[incarnation] > 1
        else Copy(TOPIC_EXCHANGE, session_key(destination.name, sid), _to_gateway(incarnation))
        for sid, incarnation in subscribed.items()
    )
    return tuple(dict.fromkeys(copies))


def _to_gateway(incarnation: Incarnation) -> Copy:
    return Copy(DEFAULT_EXCHANGE, gateway_queue(incarnation))
