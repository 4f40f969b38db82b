"""Which gateway processes' sessions are to be removed: decided from leases and pods only.

The leases are read before the pods are listed. Every holder of a lease had a pod by then, so a pod that is missing in
the later list has ended. In the other order, a pod that started in between would be taken for gone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pushcluster_contract.ids import Incarnation
from pushcluster_operator.status.sweep_report import CUT_OFF_S

NOT_READY_S: Final = 60.0
"""A pod is taken for dead if its lease has expired and it has not been ready for this long."""


class RemovalCause(StrEnum):
    """Why an incarnation is removed: a label of the metric, and text in the Event."""

    POD_GONE = "pod_gone"
    POD_FINISHED = "pod_finished"
    CONTAINER_STOPPED = "container_stopped"
    POD_NOT_READY = "pod_not_ready"
    SUPERSEDED = "superseded"
    CUT_OFF = "cut_off"

    def in_words(self) -> str:
        """Return the cause as text for a person."""
        return _WORDS[self]


_WORDS: Final = {
    RemovalCause.POD_GONE: "the pod is gone",
    RemovalCause.POD_FINISHED: "the pod has finished",
    RemovalCause.CONTAINER_STOPPED: "its container is not running",
    RemovalCause.POD_NOT_READY: f"the pod has not been ready for {NOT_READY_S:.0f} s",
    RemovalCause.SUPERSEDED: "a new process runs in the same pod",
    RemovalCause.CUT_OFF: f"it has not renewed its lease for {CUT_OFF_S:.0f} s, although Redis answers",
}


@dataclass(frozen=True, slots=True)
class GatewayLease:
    """One member of the sorted set `gateways` in Redis."""

    incarnation: Incarnation
    expires_ms: int
    """By Redis TIME, since the epoch."""

    def is_live(self, now_ms: int) -> bool:
        """Return whether the lease has not expired. `now_ms` is Redis TIME."""
        return self.expires_ms > now_ms


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """A lease that each sweep has found expired since the operator first saw it so."""

    expires_ms: int
    since_s: float
    """By the operator's steady clock."""


@dataclass(frozen=True, slots=True)
class GatewayPod:
    """What a removal depends on, of one pod."""

    uid: str
    name: str
    finished: bool
    running: bool
    """Whether its gateway container is running now."""
    ready: bool
    terminating: bool = False
    """Whether it was told to stop, and may still be draining."""

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], container: str = "gateway") -> "GatewayPod":
        """Read a pod as LIST returns it."""
        status = manifest.get("status", {})
        statuses = status.get("containerStatuses") or []
        return cls(
            uid=manifest["metadata"]["uid"],
            name=manifest["metadata"]["name"],
            finished=status.get("phase") in {"Succeeded", "Failed"},
            running=any(item["name"] == container and "running" in item.get("state", {}) for item in statuses),
            ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []),
            terminating="deletionTimestamp" in manifest["metadata"],
        )


@dataclass(frozen=True, slots=True)
class Removal:
    """An incarnation whose sessions are to be removed."""

    incarnation: Incarnation
    cause: RemovalCause


def plan_removals(
    leases: Sequence[GatewayLease],
    now_ms: int,
    pods: Iterable[GatewayPod],
    not_ready_s: Mapping[str, float],
    expired_s: Mapping[Incarnation, float],
) -> tuple[Removal, ...]:
    """Return which incarnations to remove.

    `leases` and `now_ms` were read from Redis before `pods` were listed. `not_ready_s` maps a pod's UID to how long, in
    seconds, the operator has seen it not ready; `expired_s` maps an incarnation to how long it has seen its lease
    expired.
    """
    by_uid = {pod.uid: pod for pod in pods}
    live = {lease.incarnation for lease in leases if lease.is_live(now_ms)}
    live_pods = {incarnation.pod_uid for incarnation in live}
    removals = []
    for lease in leases:
        incarnation = lease.incarnation
        pod = by_uid.get(incarnation.pod_uid)
        if pod is None:
            removals.append(Removal(incarnation, RemovalCause.POD_GONE))
        elif incarnation not in live:
            times = not_ready_s.get(pod.uid, 0.0), expired_s.get(incarnation, 0.0)
            cause = _cause_of_expired(pod, *times, superseded=pod.uid in live_pods)
            if cause is not None:
                removals.append(Removal(incarnation, cause))
    return tuple(removals)


def _cause_of_expired(
    pod: GatewayPod, not_ready_s: float, expired_s: float, *, superseded: bool
) -> RemovalCause | None:
    """Return why the sessions of an expired lease are removed. None: its process may be slow, and renew it soon."""
    if pod.finished:
        return RemovalCause.POD_FINISHED
    if not pod.running:
        return RemovalCause.CONTAINER_STOPPED
    if superseded:
        return RemovalCause.SUPERSEDED
    if not_ready_s >= NOT_READY_S:
        return RemovalCause.POD_NOT_READY
    if pod.ready and expired_s >= CUT_OFF_S:
        # It lives, and is ready whatever it can reach. Once it reaches Redis again, it writes its sessions back.
        return RemovalCause.CUT_OFF
    return None


def track_not_ready(since: Mapping[str, float], pods: Iterable[GatewayPod], now_s: float) -> dict[str, float]:
    """Return since when the operator has seen each pod that is not ready, by the caller's steady clock.

    The times in a pod's status are not used: they come from another machine's clock.
    """
    return {pod.uid: since.get(pod.uid, now_s) for pod in pods if not pod.ready}


def track_expired(
    seen: Mapping[Incarnation, ExpiredLease], leases: Iterable[GatewayLease], now_ms: int, now_s: float
) -> dict[Incarnation, ExpiredLease]:
    """Return since when the operator has seen each expired lease. The time of one that was renewed starts anew.

    `now_ms` is Redis TIME, and `now_s` the caller's steady clock. The caller forgets what it has `seen` when Redis did
    not answer meanwhile, or is another one: then no gateway could renew.
    """
    expired = {}
    for lease in leases:
        if lease.is_live(now_ms):
            continue
        before = seen.get(lease.incarnation)
        since_s = now_s
        # An earlier expiry is no renewal: gateways set it for one that they take for lost (`lua/expire_leases.lua`).
        if before is not None and lease.expires_ms <= before.expires_ms:
            since_s = before.since_s
        expired[lease.incarnation] = ExpiredLease(lease.expires_ms, since_s)
    return expired
