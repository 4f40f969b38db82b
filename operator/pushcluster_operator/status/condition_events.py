"""Which Events follow from a changed status. Pure: `kube/events.py` writes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pushcluster_operator.status.conditions import TRANSIENT_REASONS, Condition


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """One Event to record."""

    reason: str
    message: str
    warning: bool = False


def plan_condition_events(former: Mapping[str, object], conditions: Sequence[Condition]) -> tuple[PlannedEvent, ...]:
    """Return an Event for each thing that `conditions` say and the `former` status did not, in order."""
    return tuple(_tell(_by_type(former), {condition.type: condition for condition in conditions}))


def _tell(former: Mapping[str, Mapping[str, str]], now: Mapping[str, Condition]) -> Iterator[PlannedEvent]:
    if not former:
        yield PlannedEvent("Created", "the operator is creating RabbitMQ, Redis, gateways and dispatchers")
    ready, degraded = now["Ready"], now["Degraded"]
    was_ready = former.get("Ready", {}).get("status") == "True"
    if ready.status == "True" and not was_ready:
        yield PlannedEvent("Ready", ready.message)
    if degraded.status != "True":
        if ready.status != "True" and was_ready:
            yield PlannedEvent(ready.reason, ready.message)
        return
    told = {condition["reason"] for condition in former.values()}
    if degraded.reason not in told:
        # The message of Degraded names the troubles of all parts.
        yield PlannedEvent(degraded.reason, degraded.message, warning=True)
        return
    parts = (condition for condition in now.values() if condition.type.endswith("Ready") and condition is not ready)
    for part in parts:
        has_trouble = part.status == "False" and part.reason not in TRANSIENT_REASONS
        if has_trouble and part.reason != former.get(part.type, {}).get("reason"):
            yield PlannedEvent(part.reason, part.message, warning=True)


def _by_type(status: Mapping[str, object]) -> dict[str, Mapping[str, str]]:
    conditions = status.get("conditions")
    return {condition["type"]: condition for condition in conditions} if isinstance(conditions, list) else {}
