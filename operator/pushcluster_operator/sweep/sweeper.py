"""The sweep removes the sessions of gateway processes that have ended, every 3 s and when a pod's event comes.

`removals` decides which, from leases and pods. `pushcluster_runtime.redis.incarnation_removal` deletes them, the lease
last, so that a gateway which was removed by mistake notices and writes its sessions back.

Gateways remove sessions too, their own when they drain and those of earlier processes of their pod when they start
(`registry/store.py` of the gateway). The sweep is for all that had no time to.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from pushcluster_contract.errors import TooOld
from pushcluster_contract.ids import Incarnation
from pushcluster_operator.errors import Unavailable
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.events import EventRecorder
from pushcluster_operator.kube.labels import Component, selector_text
from pushcluster_operator.metrics import Metrics
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from pushcluster_operator.status.status import SessionCounts
from pushcluster_operator.status.sweep_report import SweepReport
from pushcluster_operator.sweep.reachability import (
    WithoutLease,
    find_left_behind,
    find_without_broker,
    forget_undecided,
    track_without_lease,
)
from pushcluster_operator.sweep.registry import RegistryClient, RegistrySnapshot
from pushcluster_operator.sweep.removals import (
    ExpiredLease,
    GatewayLease,
    GatewayPod,
    Removal,
    RemovalCause,
    plan_removals,
    track_expired,
    track_not_ready,
)

INTERVAL_S: Final = 3.0
"""A pod's entries must be gone at most 5 s after the pod, even if the pod's event is lost."""

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a PushCluster."""


@dataclass(slots=True)
class SweptCluster:
    """What is known of one PushCluster between two sweeps."""

    identity: ClusterIdentity
    registry: RegistryClient
    counts: SessionCounts
    not_ready_since: dict[str, float] = field(default_factory=dict)
    expired: dict[Incarnation, ExpiredLease] = field(default_factory=dict)
    without_lease: dict[str, WithoutLease] = field(default_factory=dict)
    """Ready pods by UID."""
    without_broker: tuple[Incarnation, ...] = ()
    run_id: str = ""
    """Of the Redis that answered last."""
    pod_names: dict[str, str] = field(default_factory=dict)
    """UID → name, also of pods that are gone and still have a lease."""
    too_old: TooOld | None = None
    """The error, if the Redis that answered last is too old."""
    append_only: bool = True
    full: bool = False
    """Whether Redis had no memory left for messages when it last answered."""
    failing_since: float | None = None
    """By the steady clock. None: the last sweep succeeded."""
    last_error: str = ""
    redis_answers: bool = True
    """Whether Redis answered the last sweep."""

    def report(self, now_s: float) -> SweepReport:
        """Return what the status says of the sweeps. `now_s` is the steady clock of `failing_since`."""
        cut_off = [uid for uid, pod in self.without_lease.items() if pod.cut_off]
        return SweepReport(
            failing_s=0.0 if self.failing_since is None else now_s - self.failing_since,
            redis_answers=self.redis_answers,
            error=self.last_error,
            without_broker=self._name_pods(each.pod_uid for each in self.without_broker),
            cut_off=self._name_pods(cut_off),
        )

    def _name_pods(self, uids: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(self.name_pod(uid) for uid in set(uids)))

    def name_pod(self, uid: str) -> str:
        """Return a pod's name, or what else is known of it."""
        return self.pod_names.get(uid, f"with UID {uid}")

    def start_anew(self) -> None:
        """Forget since when no gateway renewed. No gateway could, or nobody knows."""
        self.expired = {}
        self.without_lease = forget_undecided(self.without_lease)


@dataclass(slots=True)
class Sweeper:
    """Sweeps the PushClusters that it was told to watch."""

    kube: KubeClient
    recorder: EventRecorder
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _watched: dict[Key, SweptCluster] = field(default_factory=dict)

    async def watch(self, identity: ClusterIdentity, redis_url: str, counts: SessionCounts) -> bool:
        """Sweep this PushCluster from now on, with its Redis at this URL. Return whether that is a change.

        `counts` is where an earlier operator stopped. It is used if this one has no counts yet.
        """
        key = (identity.namespace, identity.name)
        known = self._watched.get(key)
        same = known is not None and known.identity.uid == identity.uid
        if known is not None and same and known.registry.url == redis_url:
            known.identity = identity
            return False
        await self.forget(key)
        kept = known.counts if known is not None and same else counts
        self._watched[key] = SweptCluster(identity, RegistryClient(identity.id, redis_url), kept)
        return True

    async def forget(self, key: Key) -> None:
        """Stop sweeping this PushCluster."""
        known = self._watched.pop(key, None)
        if known is not None:
            await known.registry.close()

    async def close(self) -> None:
        """Forget all PushClusters."""
        for key in list(self._watched):
            await self.forget(key)

    def get(self, key: Key) -> SweptCluster | None:
        """Return what is known of a PushCluster."""
        return self._watched.get(key)

    async def sweep(self, key: Key) -> float | None:
        """Sweep once. Return the seconds until the next sweep, or None if there is nothing to sweep.

        Raise Unavailable, Conflict or Refused if Redis or the API server did not answer. A missing answer never removes
        a session.
        """
        watched = self._watched.get(key)
        if watched is None:
            return None
        try:
            online = await self._sweep(watched)
        except Unavailable as error:
            # No back-off: to keep the promised time, the next attempt must come as soon as the next sweep would have.
            self._note_failure(watched, error)
            return INTERVAL_S
        except Exception as error:
            self._note_failure(watched, error)
            raise
        if watched.failing_since is not None:
            _log.info("sweeps succeed again", extra={"pushcluster": watched.identity.id})
        watched.failing_since = watched.too_old = None
        watched.counts = replace(watched.counts, online=online, last_sweep_time=self._timestamp())
        return INTERVAL_S

    def _note_failure(self, watched: SweptCluster, error: Exception) -> None:
        self.metrics.sweep_errors.inc()
        watched.start_anew()
        if watched.failing_since is None:
            watched.failing_since = self.clock()
            extra = {"pushcluster": watched.identity.id, "error": str(error)}
            _log.warning("a sweep failed; the operator repeats it until it succeeds", extra=extra)
        watched.last_error = str(error)
        if isinstance(error, TooOld):
            watched.too_old = error

    async def _sweep(self, watched: SweptCluster) -> int:
        reading = await self._read(watched)
        leases, now_ms = reading.leases, reading.now_ms
        pods = await self._list_pods(watched.identity, selector_text(watched.identity, Component.GATEWAY))
        leased = {lease.incarnation.pod_uid for lease in leases}
        watched.pod_names = {uid: name for uid, name in watched.pod_names.items() if uid in leased}
        watched.pod_names.update((pod.uid, pod.name) for pod in pods)
        self._note_reachability(watched, reading, pods)
        removals = self._plan(watched, leases, now_ms, pods)
        if any(removal.cause is RemovalCause.POD_GONE for removal in removals):
            # A pod whose labels were edited is missing in that list, although it is alive. So list all pods.
            pods = await self._list_pods(watched.identity, "")
            removals = self._plan(watched, leases, now_ms, pods)
        for removal in removals:
            await self._remove(watched, removal)
        if left := find_left_behind(reading.without_broker, leases):
            await watched.registry.forget_without_broker(left)
        removed = {removal.incarnation for removal in removals}
        live = [lease.incarnation for lease in leases if lease.is_live(now_ms) and lease.incarnation not in removed]
        return await watched.registry.count_sessions(live)

    async def _read(self, watched: SweptCluster) -> RegistrySnapshot:
        """Return the registry, and note what Redis says of itself."""
        try:
            reading = await watched.registry.read()
        except Unavailable:
            watched.redis_answers = False
            raise
        watched.redis_answers = True
        if reading.run_id != watched.run_id:
            watched.start_anew()
        watched.run_id, watched.append_only = reading.run_id, reading.append_only
        watched.full = reading.memory.is_full(was_full=watched.full)
        return reading

    def _note_reachability(self, watched: SweptCluster, reading: RegistrySnapshot, pods: list[GatewayPod]) -> None:
        """Note which gateways reach RabbitMQ and Redis. `pods` are the pods of gateways alone."""
        leases, now_ms, now_s = reading.leases, reading.now_ms, self.clock()
        watched.without_broker = find_without_broker(reading.without_broker, leases, now_ms)
        watched.expired = track_expired(watched.expired, leases, now_ms, now_s)
        watched.without_lease = track_without_lease(watched.without_lease, pods, leases, now_ms, now_s)

    async def _list_pods(self, identity: ClusterIdentity, selector: str) -> list[GatewayPod]:
        return [
            GatewayPod.from_manifest(item) for item in await self.kube.list_objects("Pod", identity.namespace, selector)
        ]

    def _plan(
        self, watched: SweptCluster, leases: tuple[GatewayLease, ...], now_ms: int, pods: list[GatewayPod]
    ) -> tuple[Removal, ...]:
        now_s = self.clock()
        watched.not_ready_since = track_not_ready(watched.not_ready_since, pods, now_s)
        not_ready_s = {uid: now_s - since for uid, since in watched.not_ready_since.items()}
        expired_s = {incarnation: now_s - lease.since_s for incarnation, lease in watched.expired.items()}
        return plan_removals(leases, now_ms, pods, not_ready_s, expired_s)

    async def _remove(self, watched: SweptCluster, removal: Removal) -> None:
        number = await watched.registry.remove(removal.incarnation)
        _log.info(
            "removed a gateway process from the registry",
            extra={
                "pushcluster": watched.identity.id,
                "incarnation": str(removal.incarnation),
                "cause": removal.cause.value,
                "sessions": number,
            },
        )
        if number == 0:
            return
        identity = watched.identity
        self.metrics.sessions_removed.labels(identity.namespace, identity.name, removal.cause.value).inc(number)
        watched.counts = replace(
            watched.counts,
            removed_total=watched.counts.removed_total + number,
            last_removal_time=self._timestamp(),
        )
        sessions = "session" if number == 1 else "sessions"
        pod = watched.name_pod(removal.incarnation.pod_uid)
        message = f"removed {number} stale {sessions} of gateway pod {pod}: {removal.cause.in_words()}"
        await self.recorder.record(identity, "StaleSessionsRemoved", message)

    def _timestamp(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
