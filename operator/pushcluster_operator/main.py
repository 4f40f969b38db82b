"""The operator's life: it takes the Lease, then watches, reconciles and sweeps. When one of these ends, it ends."""

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import kopf
from prometheus_client import CollectorRegistry

from pushcluster_operator.controller.canary import Canary
from pushcluster_operator.controller.reconciler import Reconciler
from pushcluster_operator.controller.version_checks import VersionChecks
from pushcluster_operator.controller.watches import build_registry, build_settings
from pushcluster_operator.controller.work_queue import WorkQueue
from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.events import EventRecorder
from pushcluster_operator.kube.leader import Leader, build_identity
from pushcluster_operator.metrics import Metrics
from pushcluster_operator.settings import Settings
from pushcluster_operator.spec.pushcluster import KIND
from pushcluster_operator.sweep.sweeper import Key, Sweeper
from pushcluster_runtime.admin import AdminServer
from pushcluster_runtime.process import run

RECONCILE_WORKERS: Final = 4
SWEEP_WORKERS: Final = 8
"""More than RECONCILE_WORKERS, because a sweep mostly waits for a Redis that may answer slowly."""
DISCOVER_EVERY_S: Final = 60.0
"""How often PushClusters are also found by LIST. A lost event delays one by no more than this."""
STUCK_AFTER_S: Final = 180.0
"""A queue is stuck if none of its workers has finished anything for this long."""

_log = logging.getLogger(__name__)


class Operator:
    """All parts, put together."""

    def __init__(self, settings: Settings, kube: KubeClient) -> None:
        self._settings = settings
        self._kube = kube
        self.metrics = Metrics(CollectorRegistry())
        self._identity = build_identity(settings.pod_name, os.urandom(8).hex())
        self.leader = Leader(kube, settings.namespace, self._identity)
        self.leads = False
        self._canary = Canary(kube, settings.namespace)
        recorder = EventRecorder(kube)
        self._sweeper = Sweeper(kube, recorder, self.metrics)
        queue: dict[str, Any] = {"clock": time.monotonic, "random": random.random}
        self._sweeps: WorkQueue[Key] = WorkQueue(self._sweeper.sweep, metrics=self.metrics.sweeps, **queue)
        versions = VersionChecks(kube)
        reconciler = Reconciler(
            kube, self._sweeper, recorder, self.metrics, settings.images, versions, self._sweeps.add
        )
        self._reconciles: WorkQueue[Key] = WorkQueue(reconciler.reconcile, metrics=self.metrics.reconciles, **queue)

    def is_healthy(self) -> bool:
        """Return whether events arrive and work gets done. A process that stands by is always healthy."""
        if not self.leads:
            return True
        now = time.monotonic()
        stuck = any(now - queue.last_progress_s > STUCK_AFTER_S for queue in (self._reconciles, self._sweeps))
        return self._canary.watches_work() and not stuck

    def readiness(self) -> tuple[bool, str]:
        """Return ready, also for a process that stands by: a roll-out would never end if only the leader were ready."""
        return True, "leading" if self.leads else "standing by"

    async def run(self, stop: asyncio.Event) -> None:
        """Lead until `stop` is set. Raise what any part raises."""
        if not await _until(stop, self.leader.acquire()):
            return
        self.leads = True
        self.metrics.leader.set(1)
        now = time.monotonic()
        self._reconciles.last_progress_s = self._sweeps.last_progress_s = now
        try:
            await _until(stop, self._work(stop))
        finally:
            self.metrics.leader.set(0)
            await self._sweeper.close()
            await self.leader.release()

    async def _work(self, stop: asyncio.Event) -> None:
        # Start these before kopf: when kopf ends, it cancels every task that was started after it.
        async with asyncio.TaskGroup() as group:
            group.create_task(self.leader.keep())
            group.create_task(self._reconciles.run(RECONCILE_WORKERS))
            group.create_task(self._sweeps.run(SWEEP_WORKERS))
            group.create_task(self._discover())
            group.create_task(self._canary.run())
            group.create_task(self._watch(stop))

    async def _watch(self, stop: asyncio.Event) -> None:
        await asyncio.sleep(0)
        started = asyncio.Event()
        signals = asyncio.create_task(_keep_signals(started, stop))
        namespaces = self._settings.watch_namespaces
        # The operator's own namespace is watched too, because its canary lives there.
        watched = {*namespaces, self._settings.namespace} if namespaces else ()
        await kopf.operator(
            registry=build_registry(
                reconcile=self._add_to(self._reconciles), sweep=self._add_to(self._sweeps), canary=self._canary
            ),
            settings=build_settings(),
            identity=cast(
                Any, self._identity
            ),  # kopf's default is the user's name, and the pod's numeric user has none
            standalone=True,
            clusterwide=not namespaces,
            namespaces=tuple(watched),
            ready_flag=started,
        )
        signals.cancel()
        raise Unavailable("kopf has stopped watching")

    def _add_to(self, queue: WorkQueue[Key]) -> Callable[[Key], Awaitable[None]]:
        """Return a function that adds a PushCluster to the queue if the operator is responsible for its namespace."""

        async def add(key: Key) -> None:
            if not self._settings.watch_namespaces or key[0] in self._settings.watch_namespaces:
                await queue.add(key)

        return add

    async def _discover(self) -> None:
        while True:
            try:
                for namespace in self._settings.watch_namespaces or (None,):
                    for item in await self._kube.list_objects(KIND, namespace):
                        await self._reconciles.add((item["metadata"]["namespace"], item["metadata"]["name"]))
            except (Conflict, Refused, Unavailable) as error:
                _log.warning(
                    "PushClusters cannot be listed; the operator tries again in a minute", extra={"error": str(error)}
                )
            await asyncio.sleep(DISCOVER_EVERY_S)


async def _keep_signals(kopf_started: asyncio.Event, stop: asyncio.Event) -> None:
    """Take SIGTERM and SIGINT back from kopf, which would stop itself and leave the other tasks running."""
    await kopf_started.wait()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)


async def _until(stop: asyncio.Event, work: Any) -> bool:
    """Run `work` until it ends or `stop` is set. Return whether it ended; raise what it raised."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        return False
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def operate(settings: Settings, stop: asyncio.Event) -> None:
    """Serve /healthz, /readyz and /metrics, and operate until `stop` is set."""
    kube = await KubeClient.connect()
    operator = Operator(settings, kube)
    admin = AdminServer(
        settings.listen_host, settings.admin_port, operator.readiness, operator.metrics.registry, operator.is_healthy
    )
    await admin.start()
    try:
        await operator.run(stop)
    finally:
        await admin.close()
        await kube.close()


def main() -> int:
    """Run the operator, and return its exit code."""
    return run("operator", Settings.parse, operate)
