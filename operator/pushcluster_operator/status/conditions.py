"""The conditions of a PushCluster: what is, why, and what to do next, in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pushcluster_contract.errors import TooOld
from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.kube.manifest import ObjectKey
from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.workloads import Workload

PASSING: Final = frozenset({"Starting", "RollingOut", "Waiting"})
"""Reasons of a part that is not ready and has no trouble of its own."""
_MAX_MESSAGE_CHARS: Final = 1_500


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, without its times."""

    type: str
    status: str
    """True, False or Unknown."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ObservedState:
    """Everything that the conditions of a PushCluster with a valid spec speak of."""

    rabbitmq: Workload
    redis: Workload
    gateway: Workload
    dispatcher: Workload
    warnings: tuple[Condition, ...] = ()
    """What the spec lets happen, and its author may not want."""
    paused: bool = False
    conflicts: tuple[ObjectKey, ...] = ()
    """Names that other objects have taken."""
    key_troubles: tuple[Trouble, ...] = ()
    """What keeps gateways from checking tokens."""
    troubles: tuple[Trouble, ...] = ()
    """What else is wrong besides the workloads, such as a refused request."""
    sweep_trouble: Trouble | None = None
    durability_reduced: bool = False
    """Redis keeps no append-only file."""


def build_conditions(observed: ObservedState) -> tuple[Condition, ...]:
    """Return all conditions, the most telling first."""
    stores = (("RabbitMQ", observed.rabbitmq), ("Redis", observed.redis))
    broken = [name for name, store in stores if store.troubles]
    missing = [*broken, "keys to check tokens with"] if observed.key_troubles else broken
    parts = (
        *(build_part(f"{name}Ready", name, store) for name, store in stores),
        build_part("GatewaysReady", "gateways", observed.gateway, waits_for=" and ".join(missing)),
        build_part("DispatchersReady", "dispatchers", observed.dispatcher, waits_for=" and ".join(broken)),
    )
    degraded = build_degraded(observed)
    ready = build_ready(observed, parts, degraded)
    progressing = build_progressing(observed, parts)
    reduced = (build_durability_reduced(),) if observed.durability_reduced else ()
    return (ready, progressing, degraded, *parts, *observed.warnings, *reduced)


def build_part(type_: str, name: str, workload: Workload, waits_for: str = "") -> Condition:
    """Return the condition of one component; `waits_for` names what it cannot be ready without and that is broken."""
    count = f"{workload.ready} of {workload.desired} ready"
    if workload.troubles:
        return Condition(type_, "False", workload.troubles[0].reason, _say(workload.troubles))
    if workload.is_complete:
        if workload.desired == 0:
            return Condition(type_, "True", "ScaledToZero", f"no {name} are asked for")
        return Condition(type_, "True", "AllReady", f"{name}: {count}")
    if workload.ready < workload.desired and waits_for:
        return Condition(type_, "False", "Waiting", f"{name}: {count}; waiting for {waits_for}")
    if workload.ready < workload.desired:
        who = "the others are " if workload.ready else ""
        return Condition(type_, "False", "Starting", f"{name}: {count}; {who}starting")
    return Condition(type_, "False", "RollingOut", f"{name}: {count}; the newest description is being rolled out")


def build_degraded(observed: ObservedState) -> Condition:
    """Return whether something is wrong that does not pass by itself."""
    troubles = [
        *(Trouble("NameTaken", _taken(key)) for key in observed.conflicts),
        *observed.key_troubles,
        *observed.troubles,
        *observed.rabbitmq.troubles,
        *observed.redis.troubles,
        *observed.gateway.troubles,
        *observed.dispatcher.troubles,
        *((observed.sweep_trouble,) if observed.sweep_trouble is not None else ()),
    ]
    if troubles:
        return Condition("Degraded", "True", troubles[0].reason, _say(troubles))
    return Condition("Degraded", "False", "NothingWrong", "nothing is known to be wrong")


def build_ready(observed: ObservedState, parts: Iterable[Condition], degraded: Condition) -> Condition:
    """Return whether all is as the spec asks; the reason is the first thing that is not."""
    unready = [part for part in parts if part.status != "True"]
    if degraded.status == "True":
        return Condition("Ready", "False", degraded.reason, degraded.message)
    if unready:
        message = "; ".join(part.message for part in unready)
        return Condition("Ready", "False", f"{unready[0].type.removesuffix('Ready')}NotReady", _cut(message))
    return Condition("Ready", "True", "AsAsked", _describe_service(observed))


def _describe_service(observed: ObservedState) -> str:
    """Say what a PushCluster that is as asked does for its users; zero replicas may be what was asked."""
    if observed.dispatcher.desired == 0:
        return "as asked, without dispatchers: messages can be published over AMQP and wait in the ingress queues"
    if observed.gateway.desired == 0:
        return "as asked, without gateways: messages can be published and are kept, but no client can connect"
    return "messages can be published and reach the users who are connected"


def build_progressing(observed: ObservedState, parts: Sequence[Condition]) -> Condition:
    """Return whether the operator or Kubernetes is still changing something."""
    if observed.paused:
        return Condition(
            "Progressing",
            "False",
            "Paused",
            "the annotation pushcluster.dev/paused is true: children are left as they are; remove it to go on",
        )
    moving = [part.message for part in parts if part.reason in {"Starting", "RollingOut"}]
    if moving:
        return Condition("Progressing", "True", "Changing", _cut("; ".join(moving)))
    if any(part.status != "True" for part in parts):
        return Condition("Progressing", "False", "Blocked", "nothing moves until what Degraded speaks of is mended")
    return Condition("Progressing", "False", "AtRest", "nothing is being changed")


def build_durability_reduced() -> Condition:
    """Return the warning of a Redis that forgets."""
    return Condition(
        "DurabilityReduced",
        "True",
        "NoAppendOnlyFile",
        "Redis keeps no append-only file: messages whose publishers have their confirm are lost when it ends. "
        "Set `appendonly yes`; a managed Redis has it from its start, so there `kubectl delete pod` brings it back",
    )


def build_fields_unknown(fields: Sequence[str]) -> tuple[Condition, ...]:
    """Return the warning of an operator that is older than its custom resource definition, if there are such fields."""
    if not fields:
        return ()
    text = f"without effect, because this operator is older than the definition of PushCluster: {', '.join(fields)}"
    return (Condition("FieldsUnknown", "True", "OperatorTooOld", _cut(f"{text}. Upgrade the operator")),)


def build_refusal(error: InvalidSpec | TooOld) -> tuple[Condition, ...]:
    """Return the conditions of a spec or a Kubernetes that cannot be; children stay as they were last made."""
    if isinstance(error, InvalidSpec):
        reason, mend, waiting = "InvalidSpec", "correct the spec", "waiting for a valid spec"
    else:
        reason, mend, waiting = "KubernetesTooOld", "upgrade Kubernetes", "waiting for a newer Kubernetes"
    text = f"{error}. What runs is left as it was; {mend}"
    return (
        Condition("Ready", "False", reason, text),
        Condition("Progressing", "False", reason, waiting),
        Condition("Degraded", "True", reason, text),
    )


def render(
    conditions: Iterable[Condition], former: Iterable[Mapping[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """Return the conditions as `status.conditions` holds them; the time moves only when the status does."""
    before = {condition["type"]: condition for condition in former}
    rendered = []
    for condition in conditions:
        old = before.get(condition.type, {})
        same = old.get("status") == condition.status
        rendered.append(
            {
                "type": condition.type,
                "status": condition.status,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if same else now,
                "reason": condition.reason,
                "message": condition.message,
            }
        )
    return rendered


def _taken(key: ObjectKey) -> str:
    return (
        f"{key} exists and does not belong to this PushCluster; it is left alone. Delete or rename it, "
        "or give the PushCluster another name"
    )


def _say(troubles: Iterable[Trouble]) -> str:
    return _cut("; ".join(dict.fromkeys(trouble.message for trouble in troubles)))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARS else f"{text[:_MAX_MESSAGE_CHARS]}…"
