"""The conditions of a PushCluster: what happened, why, and what to do next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pushcluster_contract.errors import TooOld
from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.kube.manifest import ObjectKey
from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.workloads import Workload

TRANSIENT_REASONS: Final = frozenset({"Starting", "RollingOut", "Waiting"})
"""Reasons of a part that is not ready yet and has no trouble of its own."""
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
    """Everything that the conditions of a PushCluster with a valid spec depend on."""

    rabbitmq: Workload
    redis: Workload
    gateway: Workload
    dispatcher: Workload
    warnings: tuple[Condition, ...] = ()
    """What the spec allows, and its author may not want."""
    paused: bool = False
    conflicts: tuple[ObjectKey, ...] = ()
    """Names that other objects have taken."""
    key_troubles: tuple[Trouble, ...] = ()
    """What keeps gateways from checking tokens."""
    troubles: tuple[Trouble, ...] = ()
    """What else is wrong besides the workloads, such as a refused request."""
    sweep_troubles: tuple[Trouble, ...] = ()
    """What the sweeps of the registry have found. It often follows from the other troubles, and comes last."""
    durability_reduced: bool = False
    """Redis keeps no append-only file."""


def build_conditions(observed: ObservedState) -> tuple[Condition, ...]:
    """Return all conditions. Ready, Progressing and Degraded come first."""
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
    """Return the condition of one component. `waits_for` names the broken parts that it needs to be ready."""
    count = f"{workload.ready} of {workload.desired} ready"
    if workload.troubles:
        return Condition(type_, "False", workload.troubles[0].reason, _say(workload.troubles))
    if workload.is_complete:
        if workload.desired == 0:
            return Condition(type_, "True", "ScaledToZero", f"the spec asks for no {name}")
        return Condition(type_, "True", "AllReady", f"{name}: {count}")
    if workload.ready < workload.desired and waits_for:
        return Condition(type_, "False", "Waiting", f"{name}: {count}; waiting for {waits_for}")
    if workload.ready < workload.desired:
        who = "the others are " if workload.ready else ""
        return Condition(type_, "False", "Starting", f"{name}: {count}; {who}starting")
    return Condition(type_, "False", "RollingOut", f"{name}: {count}; the newest version is being rolled out")


def build_degraded(observed: ObservedState) -> Condition:
    """Return the condition that says whether something is wrong that does not pass by itself."""
    troubles = [
        *(Trouble("NameTaken", _taken(key)) for key in observed.conflicts),
        *observed.key_troubles,
        *observed.troubles,
        *observed.rabbitmq.troubles,
        *observed.redis.troubles,
        *observed.gateway.troubles,
        *observed.dispatcher.troubles,
        *observed.sweep_troubles,
    ]
    if troubles:
        return Condition("Degraded", "True", troubles[0].reason, _say(troubles))
    return Condition("Degraded", "False", "NothingWrong", "no problem is known")


def build_ready(observed: ObservedState, parts: Iterable[Condition], degraded: Condition) -> Condition:
    """Return the condition that says whether all is as the spec asks. The reason names the first part that is not."""
    unready = [part for part in parts if part.status != "True"]
    if degraded.status == "True":
        return Condition("Ready", "False", degraded.reason, degraded.message)
    if unready:
        message = "; ".join(part.message for part in unready)
        return Condition("Ready", "False", f"{unready[0].type.removesuffix('Ready')}NotReady", _cut(message))
    return Condition("Ready", "True", "AsAsked", _describe_service(observed))


def _describe_service(observed: ObservedState) -> str:
    """Return what a ready PushCluster does for its users. The spec may ask for zero replicas."""
    if observed.dispatcher.desired == 0:
        return "the spec asks for no dispatchers: messages can be published over AMQP, and wait in the ingress queues"
    if observed.gateway.desired == 0:
        return "the spec asks for no gateways: messages can be published and are kept, but no client can connect"
    return "messages can be published and reach the users who are connected"


def build_progressing(observed: ObservedState, parts: Sequence[Condition]) -> Condition:
    """Return the condition that says whether the operator or Kubernetes is still changing something."""
    if observed.paused:
        return Condition(
            "Progressing",
            "False",
            "Paused",
            "the annotation pushcluster.dev/paused is true, so the operator leaves the children as they are. "
            "Remove the annotation to go on",
        )
    moving = [part.message for part in parts if part.reason in {"Starting", "RollingOut"}]
    if moving:
        return Condition("Progressing", "True", "Changing", _cut("; ".join(moving)))
    if any(part.status != "True" for part in parts):
        return Condition(
            "Progressing", "False", "Blocked", "nothing changes until the problem that Degraded names is fixed"
        )
    return Condition("Progressing", "False", "AtRest", "nothing is being changed")


def build_durability_reduced() -> Condition:
    """Return the warning about a Redis without an append-only file."""
    return Condition(
        "DurabilityReduced",
        "True",
        "NoAppendOnlyFile",
        "Redis keeps no append-only file. If Redis ends, messages are lost although their publishers got a confirm. "
        "Set `appendonly yes`. A managed Redis has it when it starts, so delete its pod with `kubectl delete pod`",
    )


def build_fields_unknown(fields: Sequence[str]) -> tuple[Condition, ...]:
    """Return the warning about fields that this operator is too old to know, if there are any."""
    if not fields:
        return ()
    text = f"this operator is older than the definition of PushCluster and ignores these fields: {', '.join(fields)}"
    return (Condition("FieldsUnknown", "True", "OperatorTooOld", _cut(f"{text}. Upgrade the operator")),)


def build_refusal(error: InvalidSpec | TooOld) -> tuple[Condition, ...]:
    """Return the conditions for an invalid spec or a too old Kubernetes. The children stay as they are."""
    if isinstance(error, InvalidSpec):
        reason, mend, waiting = "InvalidSpec", "correct the spec", "waiting for a valid spec"
    else:
        reason, mend, waiting = "KubernetesTooOld", "upgrade Kubernetes", "waiting for a newer Kubernetes"
    text = f"{error}. The operator leaves what runs as it is; {mend}"
    return (
        Condition("Ready", "False", reason, text),
        Condition("Progressing", "False", reason, waiting),
        Condition("Degraded", "True", reason, text),
    )


def render(
    conditions: Iterable[Condition], former: Iterable[Mapping[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """Return the conditions as `status.conditions` has them. A time changes only when the status changes."""
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
        f"{key} exists and does not belong to this PushCluster, so the operator does not change it. "
        "Delete or rename it, or give the PushCluster another name"
    )


def _say(troubles: Iterable[Trouble]) -> str:
    return _cut("; ".join(dict.fromkeys(trouble.message for trouble in troubles)))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARS else f"{text[:_MAX_MESSAGE_CHARS]}…"
