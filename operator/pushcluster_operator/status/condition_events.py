"""Which Events follow from a changed status. Pure: `events.py` writes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pushcluster_operator.status.conditions import PASSING, Condition


@dataclass(frozen=True, slots=True)
class News:
    """One Event that a person who describes the PushCluster would want to read."""

    reason: str
    message: str
    warning: bool = False


def plan_condition_events(former: Mapping[str, object], conditions: Sequence[Condition]) -> tuple[News, ...]:
    """Return what `conditions` tell that the `former` status did not, in the order in which it is told."""
    return tuple(_tell(_by_type(former), {condition.type: condition for condition in conditions}))


def _tell(former: Mapping[str, Mapping[str, str]], now: Mapping[str, Condition]) -> Iterator[News]:
    if not former:
        yield News("Created", "RabbitMQ, Redis, gateways and dispatchers are being made")
    ready, degraded = now["Ready"], now["Degraded"]
    was_ready = former.get("Ready", {}).get("status") == "True"
    if ready.status == "True" and not was_ready:
        yield News("Ready", ready.message)
    if degraded.status != "True":
        if ready.status != "True" and was_ready:
            yield News(ready.reason, ready.message)
        return
    told = {condition["reason"] for condition in former.values()}
    if degraded.reason not in told:
        # Its message has the troubles of all parts.
        yield News(degraded.reason, degraded.message, warning=True)
        return
    parts = (condition for condition in now.values() if condition.type.endswith("Ready") and condition is not ready)
    for part in parts:
        has_trouble = part.status == "False" and part.reason not in PASSING
        if has_trouble and part.reason != former.get(part.type, {}).get("reason"):
            yield News(part.reason, part.message, warning=True)


def _by_type(status: Mapping[str, object]) -> dict[str, Mapping[str, str]]:
    conditions = status.get("conditions")
    return {condition["type"]: condition for condition in conditions} if isinstance(conditions, list) else {}
