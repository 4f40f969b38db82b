"""The reconcile of one PushCluster: read everything anew, decide, apply what differs, and write the status."""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from pushcluster_contract.errors import TooOld
from pushcluster_operator.children import build_children
from pushcluster_operator.children.inputs import Images, Inputs
from pushcluster_operator.controller.held_children import find_dependents, find_unreadable, find_unstored
from pushcluster_operator.controller.snapshot import Snapshot, read_snapshot
from pushcluster_operator.controller.version_checks import VersionChecks
from pushcluster_operator.errors import Conflict, InvalidSpec, Refused
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.credentials import Credentials, Entropy
from pushcluster_operator.kube.drift import is_drifted
from pushcluster_operator.kube.events import EventRecorder
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import (
    Manifest,
    ObjectKey,
    digest,
    key_of,
)
from pushcluster_operator.kube.names import Names
from pushcluster_operator.kube.ownership import fold_updates
from pushcluster_operator.kube.plan import (
    Applied,
    Apply,
    Delete,
    needs_apply,
    plan_children,
)
from pushcluster_operator.metrics import Metrics
from pushcluster_operator.spec.pushcluster import KIND, ClusterIdentity, PushCluster
from pushcluster_operator.status.condition_events import plan_condition_events
from pushcluster_operator.status.conditions import (
    Condition,
    ObservedState,
    build_conditions,
    build_refusal,
)
from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.redis_memory import REDIS_FULL
from pushcluster_operator.status.referenced_secrets import find_auth_troubles
from pushcluster_operator.status.status import SessionCounts, build_status, is_worth_writing
from pushcluster_operator.status.sweep_report import find_sweep_troubles
from pushcluster_operator.status.versions import describe_old_redis
from pushcluster_operator.sweep.sweeper import Key, Sweeper

RESYNC_S: Final = 10.0
"""How long a deleted or edited Secret can stay so. Secrets are read by name and not watched, so that the operator needs
no right to list them."""
FIRST_RECHECK_S: Final = 1.0
"""The first wait after a child changed during a reconcile. Each further one in a row doubles it, up to RESYNC_S."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReconcileMemory:
    """What is remembered of one PushCluster between two reconciles. Losing it costs a few writes and no promise."""

    applied: dict[ObjectKey, Applied] = field(default_factory=dict)
    status_written_s: float = 0.0
    retry_s: float = FIRST_RECHECK_S / 2
    """The last wait. It doubles with every reconcile during which somebody else changed a child."""


@dataclass(slots=True)
class Reconciler:
    """Reconciles PushClusters. The work queue runs at most one reconcile of each at a time."""

    kube: KubeClient
    sweeper: Sweeper
    recorder: EventRecorder
    metrics: Metrics
    images: Images
    versions: VersionChecks
    on_watched: Callable[[Key], Awaitable[None]]
    """Called when the sweeper gets a PushCluster that it did not have before."""
    entropy: Entropy = os.urandom
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _memories: dict[str, ReconcileMemory] = field(default_factory=dict)

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile once. Return the seconds until the next time, or None if the PushCluster is gone.

        Raise Unavailable, Conflict or Refused if the API server did not let it finish.
        """
        body = await self.kube.get(KIND, *key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            # Kubernetes deletes children with their owner. A child made now would keep a foreground deletion going.
            await self._forget(key, body)
            return None
        identity = ClusterIdentity.from_body(body)
        memory = self._memories.setdefault(identity.uid, ReconcileMemory(status_written_s=self.clock()))
        try:
            await self.versions.require_kubernetes()
            cluster = PushCluster.from_api(body)
        except (InvalidSpec, TooOld) as error:
            snapshot = await read_snapshot(self.kube, identity)
            await self._watch_sessions(identity, body, snapshot)
            await self._write_status(identity, body, memory, build_refusal(error), None)
            return RESYNC_S
        snapshot = await read_snapshot(self.kube, identity, cluster.spec.gateway.auth.secret_names)
        inputs = self._build_inputs(cluster, snapshot)
        troubles = list(find_unreadable(inputs).values())
        again = False
        conflicts: tuple[ObjectKey, ...] = ()
        if not identity.paused:
            desired = build_children(
                cluster, inputs.credentials, self.images, producer_released=inputs.producer_released
            )
            await self._add_unlabelled(snapshot, desired, identity)
            plan = plan_children(desired, snapshot.children, identity, memory.applied)
            if any(isinstance(step, Apply) and step.adopts for step in plan.steps) and not await self._stands(identity):
                return FIRST_RECHECK_S
            self._remember(desired, snapshot, memory, [step.key for step in plan.steps])
            again, refused = await self._apply_plan(plan.steps, desired, inputs, snapshot, memory)
            troubles += refused
            conflicts = plan.conflicts
        await self._watch_sessions(identity, body, snapshot)
        observed = replace(
            await snapshot.observe(self.kube, cluster),
            key_troubles=tuple(find_auth_troubles(cluster.spec.gateway.auth, snapshot.secrets, inputs.names.jwt)),
            troubles=tuple(troubles),
            conflicts=conflicts,
        )
        observed = await self._add_store_reports(observed, identity, snapshot)
        await self._write_status(identity, body, memory, build_conditions(observed), observed)
        memory.retry_s = min(memory.retry_s * 2, RESYNC_S) if again else FIRST_RECHECK_S / 2
        return memory.retry_s if again else RESYNC_S

    async def _stands(self, identity: ClusterIdentity) -> bool:
        """Return whether this PushCluster is there and not about to go.

        Its own children lose it when it is deleted without them. If it adopted them then, they would go with it. They
        lose it only after its deletion has begun, so a look after they were seen is enough.
        """
        body = await self.kube.get(KIND, identity.namespace, identity.name)
        return (
            body is not None and body["metadata"]["uid"] == identity.uid and "deletionTimestamp" not in body["metadata"]
        )

    async def _forget(self, key: Key, body: Manifest | None) -> None:
        watched = self.sweeper.get(key)
        uid = body["metadata"]["uid"] if body is not None else watched.identity.uid if watched is not None else ""
        self._memories.pop(uid, None)
        self.recorder.forget(uid)
        self.versions.forget(uid)
        await self.sweeper.forget(key)

    def _build_inputs(self, cluster: PushCluster, snapshot: Snapshot) -> Inputs:
        names = Names.of(cluster.identity)
        credentials = Credentials.recover(names, snapshot.secrets, self.entropy)
        released = names.producer in snapshot.secrets or snapshot.has_ready_dispatcher(names)
        return Inputs(cluster, credentials, self.images, released)

    async def _add_unlabelled(self, snapshot: Snapshot, desired: Iterable[Manifest], identity: ClusterIdentity) -> None:
        """Add live objects that have a child's name but not its labels: edited children, or somebody else's objects."""
        for manifest in desired:
            key = key_of(manifest)
            if key not in snapshot.children and key.kind != "Secret":
                found = await self.kube.get(key.kind, identity.namespace, key.name)
                if found is not None:
                    snapshot.children[key] = {"kind": key.kind, **found}

    def _remember(
        self, desired: Iterable[Manifest], snapshot: Snapshot, memory: ReconcileMemory, changing: list[ObjectKey]
    ) -> None:
        """Note the children that are as desired, so that a later change is known to be somebody else's."""
        for manifest in desired:
            key = key_of(manifest)
            live = snapshot.children.get(key)
            if live is not None and key not in changing and not needs_apply(manifest, live):
                memory.applied[key] = Applied(digest(manifest), live["metadata"]["resourceVersion"])

    async def _apply_plan(
        self,
        steps: Sequence[Apply | Delete],
        desired: Sequence[Manifest],
        inputs: Inputs,
        snapshot: Snapshot,
        memory: ReconcileMemory,
    ) -> tuple[bool, list[Trouble]]:
        """Run the Secrets' steps first, then the others. Steps that need an unstored or unreadable value are held back.

        Return whether to reconcile again soon, and what the API server refused.
        """
        identity, names = inputs.cluster.identity, inputs.names
        generated = {names.rabbitmq, names.redis, names.jwt, names.api}
        secrets = [step for step in steps if step.key.kind == "Secret"]
        stages = (
            [step for step in secrets if step.key.name in generated],
            [step for step in secrets if step.key.name not in generated],
            [step for step in steps if step.key.kind != "Secret"],
        )
        needed = (set[str](), generated, generated | {names.connections})
        again, troubles, unstored, held = False, list[Trouble](), set[str](), set[ObjectKey]()
        unreadable = find_unreadable(inputs).keys()
        for stage, sources in zip(stages, needed, strict=True):
            unstored = find_unstored(desired, snapshot.secrets) & sources
            held = find_dependents(desired, inputs, unstored | unreadable)
            free = [step for step in stage if step.key not in held]
            changed, refused = await self._run_steps(free, identity, snapshot, memory)
            again |= changed
            troubles += refused
        if unstored and not again:
            causes = ", ".join(sorted(unstored & generated or unstored))
            waiting = ", ".join(str(step.key) for step in stages[-1] if step.key in held) or "nothing now"
            message = f"Secret {causes} cannot be stored. Children that depend on it wait: {waiting}"
            troubles.append(Trouble("SecretNotStored", message))
        return again, troubles

    async def _run_steps(
        self, steps: Iterable[Apply | Delete], identity: ClusterIdentity, snapshot: Snapshot, memory: ReconcileMemory
    ) -> tuple[bool, list[Trouble]]:
        """Run the steps in order. Return whether to reconcile again soon, and what the API server refused."""
        again, troubles = False, []
        for step in steps:
            try:
                if isinstance(step, Delete):
                    await self._delete(step, identity, memory)
                else:
                    live = await self._apply(step, identity, memory)
                    if step.key.kind == "Secret":
                        snapshot.secrets[step.key.name] = live
            except Conflict as error:
                _log.info(
                    "a child changed during the reconcile; it is reconciled again soon",
                    extra={"child": str(step.key), "error": str(error)},
                )
                again = True
            except Refused as error:
                message = f"the API server refuses {step.key}: {error}"
                _log.warning("the API server refused a child", extra={"pushcluster": identity.id, "error": message})
                troubles.append(Trouble("ChildRefused", message))
        return again, troubles

    async def _apply(self, step: Apply, identity: ClusterIdentity, memory: ReconcileMemory) -> Manifest:
        live = await self._apply_whole(step)
        memory.applied[step.key] = Applied(digest(step.manifest), live["metadata"]["resourceVersion"])
        self.metrics.child_writes.labels(step.key.kind, "apply").inc()
        _log.info("child applied", extra={"pushcluster": identity.id, "child": str(step.key), "new": step.uid is None})
        if step.adopts:
            await self.recorder.record(
                identity, "ChildAdopted", f"{step.key} had no controller; the operator adopted it"
            )
        elif step.restores:
            change = "deleted" if step.uid is None else "edited"
            await self.recorder.record(identity, "ChildRestored", f"{step.key} was {change}; the operator restored it")
        return live

    async def _apply_whole(self, step: Apply) -> Manifest:
        """Create or apply the object. If apply is refused or leaves others' entries in our lists, merge."""
        if step.uid is None:
            # Create, not apply: our values must not mix with those of a Secret that somebody creates at this moment.
            return await (
                self.kube.create(step.manifest) if step.key.kind == "Secret" else self.kube.apply(step.manifest, None)
            )
        if step.key.kind != "Secret" and step.live is not None:
            await self._fold_updates(step.live)
        try:
            live = await self.kube.apply(step.manifest, step.uid)
            if not is_drifted(step.manifest, live):
                return live
        except Refused:
            _log.info("server-side apply was refused; falling back to a merge patch", extra={"child": str(step.key)})
        return await self.kube.merge(step.manifest, step.uid)

    async def _fold_updates(self, live: Mapping[str, Any]) -> None:
        """Have all that the operator has set count as applied. Else apply would not remove what a merge has set."""
        folded = fold_updates(live)
        if folded is None:
            return
        try:
            await self.kube.set_managed_fields(live, folded)
        except Refused as error:
            extra = {"child": str(key_of(live)), "error": str(error)}
            _log.info("the record of fields was not changed; what a merge has set stays", extra=extra)

    async def _delete(self, step: Delete, identity: ClusterIdentity, memory: ReconcileMemory) -> None:
        await self.kube.delete(step.key.kind, identity.namespace, step.key.name, step.uid)
        memory.applied.pop(step.key, None)
        self.metrics.child_writes.labels(step.key.kind, "delete").inc()
        _log.info("child deleted", extra={"pushcluster": identity.id, "child": str(step.key)})

    async def _watch_sessions(self, identity: ClusterIdentity, body: Manifest, snapshot: Snapshot) -> None:
        """Have the registry swept at the stored address. Redis does not know a password that is not stored."""
        url = snapshot.connection_url(identity, "redis-url")
        if url is not None:
            counts = SessionCounts.from_status(body.get("status") or {})
            if await self.sweeper.watch(identity, url, counts):
                await self.on_watched((identity.namespace, identity.name))

    async def _add_store_reports(
        self, observed: ObservedState, identity: ClusterIdentity, snapshot: Snapshot
    ) -> ObservedState:
        """Add what only RabbitMQ and Redis themselves know: their versions and the state of Redis's memory."""
        old_rabbitmq = await self.versions.find_old_rabbitmq(
            identity.uid, snapshot.connection_url(identity, "amqp-url"), snapshot.ready_containers(Component.RABBITMQ)
        )
        observed = replace(observed, rabbitmq=observed.rabbitmq.with_trouble(old_rabbitmq))
        watched = self.sweeper.get((identity.namespace, identity.name))
        if watched is None:
            return observed
        if watched.too_old is not None:
            return replace(observed, redis=observed.redis.with_trouble(describe_old_redis(watched.too_old)))
        found = find_sweep_troubles(watched.report(self.clock()), observed.redis, observed.rabbitmq)
        troubles = (*observed.troubles, REDIS_FULL) if watched.full else observed.troubles
        reduced = not watched.append_only
        return replace(observed, troubles=troubles, sweep_troubles=found, durability_reduced=reduced)

    async def _write_status(
        self,
        identity: ClusterIdentity,
        body: Manifest,
        memory: ReconcileMemory,
        conditions: tuple[Condition, ...],
        observed: ObservedState | None,
    ) -> None:
        former = body.get("status") or {}
        watched = self.sweeper.get((identity.namespace, identity.name))
        counts = watched.counts if watched is not None else SessionCounts.from_status(former)
        now = self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = build_status(identity, conditions, observed, counts, former, now)
        if is_worth_writing(status, former, self.clock() - memory.status_written_s):
            await self.kube.merge_status(KIND, identity.namespace, identity.name, status)
            memory.status_written_s = self.clock()
            await self._record_events(identity, former, conditions)

    async def _record_events(
        self, identity: ClusterIdentity, former: Mapping[str, object], conditions: tuple[Condition, ...]
    ) -> None:
        """Write the Events that follow from a changed status."""
        for news in plan_condition_events(former, conditions):
            await self.recorder.record(identity, news.reason, news.message, warning=news.warning)
