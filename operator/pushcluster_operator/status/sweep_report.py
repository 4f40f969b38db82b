"""What the sweeps of the registry say about gateways and Redis, as troubles of the status. Pure.

A gateway that has worked once stays ready whatever Redis and RabbitMQ do, so the sweeps have to tell what its readiness
does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.workloads import Workload

SWEEP_FAILING_S: Final = 30.0
"""How long sweeps may fail before the status says so. A restart of Redis takes less."""
CUT_OFF_S: Final = 60.0
"""A gateway whose pod is ready is taken for cut off from Redis if it has had no live lease for this long, while Redis
answered the operator."""
PUSHES_SLOW_AFTER_S: Final = 10.0
"""How long a gateway may have no connection to RabbitMQ before the status says so."""
MAX_NAMED_PODS: Final = 3
"""A message names no more pods. The others are a number."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What the last sweeps have found."""

    failing_s: float = 0.0
    """How long no sweep has succeeded. 0: the last one did."""
    redis_answers: bool = True
    """Whether Redis answered the last sweep."""
    error: str = ""
    """Why the last failed sweep failed."""
    without_broker: tuple[str, ...] = ()
    """Gateway pods that have had no connection to RabbitMQ for long."""
    cut_off: tuple[str, ...] = ()
    """Gateway pods that are ready and have renewed no lease for long, although Redis answers."""


def find_sweep_troubles(report: SweepReport, redis: Workload, rabbitmq: Workload) -> tuple[Trouble, ...]:
    """Return what is wrong. While sweeps fail, what they found before is old, and not told."""
    rabbitmq_ready = rabbitmq.ready >= rabbitmq.desired
    if report.failing_s >= SWEEP_FAILING_S:
        if report.redis_answers:
            return (_describe_failing(report.error),)
        if redis.ready >= redis.desired:
            return (_describe_unreachable_redis(report.error),)
        return (_describe_absent_redis(rabbitmq_ready=rabbitmq_ready),)
    troubles = []
    if report.cut_off:
        troubles.append(_describe_cut_off(report.cut_off))
    if report.without_broker:
        troubles.append(_describe_slow_pushes(report.without_broker, rabbitmq_ready=rabbitmq_ready))
    return tuple(troubles)


def _describe_failing(error: str) -> Trouble:
    return Trouble("SweepFailing", f"stale sessions cannot be removed now: {error}. The operator keeps trying")


def _describe_unreachable_redis(error: str) -> Trouble:
    return Trouble(
        "SweepFailing",
        f"Redis does not answer the operator, although its pod is ready: {error}. Stale sessions cannot be removed "
        "now; the operator keeps trying. If Redis does not answer gateways either, clients cannot connect (close code "
        "1013 tells them when to come again), messages wait in the ingress queues, and nothing is lost. Look for a "
        "network policy, a changed password, or a failure of DNS between the operator and Redis",
    )


def _describe_absent_redis(*, rabbitmq_ready: bool) -> Trouble:
    published = (
        "New messages wait in the ingress queues; when these are full, publishers are refused (nack, 503)"
        if rabbitmq_ready
        else "RabbitMQ is not ready either, so messages cannot be published"
    )
    return Trouble(
        "RedisAway",
        f"Redis has not answered for {SWEEP_FAILING_S:.0f} s. Gateways stay ready and keep their connections, but "
        "clients cannot connect or subscribe: an ERROR and close code 1013 tell them when to come again. "
        f"{published}. Nothing is lost. The condition RedisReady says how far Redis is; `kubectl describe pod` and "
        "`kubectl logs` of its pod say why",
    )


def _describe_cut_off(pods: Sequence[str]) -> Trouble:
    has = "is ready, but has" if len(pods) == 1 else "are ready, but have"
    named = " ".join(pods[:MAX_NAMED_PODS])
    return Trouble(
        "GatewayCutOff",
        f"{_name(pods)} {has} not reached Redis for {CUT_OFF_S:.0f} s, although Redis answers the operator. Clients "
        "there get nothing, and new ones are told when to come again (close code 1013). Mend the network between these "
        f"pods and Redis, or move the clients to other gateways: `kubectl delete pod {named}`",
    )


def _describe_slow_pushes(pods: Sequence[str], *, rabbitmq_ready: bool) -> Trouble:
    has = "has" if len(pods) == 1 else "have"
    mend = (
        "RabbitMQ is ready: look for a network policy, a changed password, or a failure of DNS between these pods and "
        "RabbitMQ"
        if rabbitmq_ready
        else "RabbitMQ is not ready, so messages cannot be published. The condition RabbitMQReady says how far it is; "
        "`kubectl describe pod` and `kubectl logs` of its pod say why"
    )
    return Trouble(
        "PushesSlow",
        f"{_name(pods)} {has} had no connection to RabbitMQ for more than {PUSHES_SLOW_AFTER_S:.0f} s. Clients "
        f"connect, and get what is in their logs within seconds instead of at once. {mend}",
    )


def _name(pods: Sequence[str]) -> str:
    """Return `gateway pod a`, `gateway pods a, b and c`, or `gateway pods a, b, c and 2 more`."""
    if len(pods) == 1:
        return f"gateway pod {pods[0]}"
    *first, last = (*pods[:MAX_NAMED_PODS], f"{more} more") if (more := len(pods) - MAX_NAMED_PODS) > 0 else pods
    return f"gateway pods {', '.join(first)} and {last}"
