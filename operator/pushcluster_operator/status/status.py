"""The status of a PushCluster: what it contains, and when a new one is worth a write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pushcluster_operator.kube.labels import Component, selector_text
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from pushcluster_operator.status.conditions import Condition, ObservedState, render

COUNTERS_EVERY_S: Final = 30.0
"""How often a change of the session counts alone is written at most. They change all the time."""
SWEEP_TIME_EVERY_S: Final = 300.0
"""How old `sessions.lastSweepTime` may get while nothing else changes."""


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """What the sweeps have found. Times are RFC 3339."""

    online: int | None = None
    removed_total: int = 0
    last_removal_time: str | None = None
    last_sweep_time: str | None = None

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "SessionCounts":
        """Return the counts that an earlier operator wrote, so that a restart loses none."""
        sessions = status.get("sessions") or {}
        return cls(removed_total=sessions.get("removedTotal", 0), last_removal_time=sessions.get("lastRemovalTime"))


def build_status(
    identity: ClusterIdentity,
    conditions: tuple[Condition, ...],
    observed: ObservedState | None,
    sessions: SessionCounts,
    former: Mapping[str, Any],
    now: str,
) -> Manifest:
    """Return the status. Without `observed` (an invalid spec), the part about pods is left out and stays as it was."""
    status: Manifest = {
        "observedGeneration": identity.generation,
        "conditions": render(conditions, former.get("conditions") or [], identity.generation, now),
        "sessions": {"removedTotal": sessions.removed_total},
    }
    for name, value in (
        ("online", sessions.online),
        ("lastRemovalTime", sessions.last_removal_time),
        ("lastSweepTime", sessions.last_sweep_time),
    ):
        if value is not None:
            status["sessions"][name] = value
    if observed is not None:
        gateway, dispatcher = observed.gateway, observed.dispatcher
        status["gateway"] = {
            "replicas": gateway.replicas,
            "readyReplicas": gateway.ready,
            "selector": selector_text(identity, Component.GATEWAY),
            "summary": f"{gateway.ready}/{gateway.desired}",
        }
        status["dispatcher"] = {
            "replicas": dispatcher.replicas,
            "readyReplicas": dispatcher.ready,
            "summary": f"{dispatcher.ready}/{dispatcher.desired}",
        }
    return status


def is_worth_writing(status: Manifest, former: Mapping[str, Any], since_last_write_s: float) -> bool:
    """Return whether to write `status` over `former`, which was written `since_last_write_s` seconds ago."""
    for part in ("observedGeneration", "conditions", "gateway", "dispatcher"):
        if part in status and status[part] != former.get(part):
            return True
    sessions, before = status["sessions"], former.get("sessions") or {}
    counters = ("online", "removedTotal", "lastRemovalTime")
    if any(sessions.get(name, before.get(name)) != before.get(name) for name in counters):
        return since_last_write_s >= COUNTERS_EVERY_S
    return since_last_write_s >= SWEEP_TIME_EVERY_S and sessions.get("lastSweepTime") != before.get("lastSweepTime")
