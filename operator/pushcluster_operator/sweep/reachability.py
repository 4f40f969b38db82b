"""Which gateways live, and cannot reach RabbitMQ or Redis. Pure.

A gateway that has worked once stays ready until it drains, so a pod's readiness does not tell.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pushcluster_contract.ids import Incarnation
from pushcluster_operator.status.sweep_report import CUT_OFF_S, PUSHES_SLOW_AFTER_S
from pushcluster_operator.sweep.removals import GatewayLease, GatewayPod


def find_without_broker(
    since_ms: Mapping[Incarnation, int], leases: Iterable[GatewayLease], now_ms: int
) -> tuple[Incarnation, ...]:
    """Return which gateways with a live lease have had no connection to RabbitMQ for long.

    `since_ms` is what gateways wrote (`Keys.without_broker`). All times are Redis TIME.
    """
    live = (lease.incarnation for lease in leases if lease.is_live(now_ms))
    slow_ms = PUSHES_SLOW_AFTER_S * 1_000
    return tuple(each for each in live if each in since_ms and now_ms - since_ms[each] > slow_ms)


def find_left_behind(since_ms: Mapping[Incarnation, int], leases: Iterable[GatewayLease]) -> tuple[Incarnation, ...]:
    """Return of whom `since_ms` speaks, although they have no lease, not even an expired one."""
    held = {lease.incarnation for lease in leases}
    return tuple(each for each in since_ms if each not in held)


@dataclass(frozen=True, slots=True)
class WithoutLease:
    """A pod that is ready, and has no live lease."""

    since_s: float
    """When the operator first saw that, by its steady clock."""
    cut_off: bool
    """Whether that has lasted for CUT_OFF_S, while Redis answered. It stays so until there is a lease again."""


def track_without_lease(
    seen: Mapping[str, WithoutLease],
    pods: Iterable[GatewayPod],
    leases: Sequence[GatewayLease],
    now_ms: int,
    now_s: float,
) -> dict[str, WithoutLease]:
    """Return the ready pods without a live lease, by UID. A gateway has a lease before it is ready.

    A gateway whose lease was removed counts too. `leases` were read before `pods` were listed, `now_ms` is Redis TIME,
    and `now_s` the caller's steady clock.
    """
    live = {lease.incarnation.pod_uid for lease in leases if lease.is_live(now_ms)}
    found = {}
    for pod in pods:
        if pod.ready and pod.running and not pod.terminating and pod.uid not in live:
            before = seen.get(pod.uid, WithoutLease(now_s, cut_off=False))
            lasted = now_s - before.since_s >= CUT_OFF_S
            found[pod.uid] = WithoutLease(before.since_s, cut_off=before.cut_off or lasted)
    return found


def forget_undecided(seen: Mapping[str, WithoutLease]) -> dict[str, WithoutLease]:
    """Return the pods that are known to be cut off. For the others, the time during which Redis answers starts anew."""
    return {uid: each for uid, each in seen.items() if each.cut_off}
