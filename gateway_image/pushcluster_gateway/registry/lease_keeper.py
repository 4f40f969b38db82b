"""Keeping the registry true: the lease, the endless walk, and the resync (step G1)."""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import LEASE_RENEW_MS
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry.batcher import Batcher
from pushcluster_gateway.registry.lease import OwnLease, ResyncCause
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.hub import Hub
from pushcluster_runtime.backoff import Backoff

WALK_STEP_S: Final = 1.0
RESYNC_BATCH_SESSIONS: Final = 200
STUCK_AFTER_S: Final = 60.0
"""Without even an attempt to renew the lease for this long, the process is taken for stuck."""

_log = logging.getLogger(__name__)

Refresh = Callable[[Client, bool], Awaitable[None]]
"""Write one session back; with True also reread its logs. Raises Unavailable."""


class LeaseKeeper:
    """Runs two loops: `run_renewals` and `run_walk`."""

    def __init__(
        self,
        *,
        registry: SessionRegistry,
        hub: Hub,
        refresh: Refresh,
        metrics: Metrics,
        environment: Environment,
        walk_round_s: float,
    ) -> None:
        self._registry = registry
        self._hub = hub
        self._refresh = refresh
        self._metrics = metrics
        self._clock = environment.clock
        self._backoff = Backoff(environment.random)
        self._walk_round_s = walk_round_s
        self.last_error = "Redis has not answered yet"
        """Why the lease was not renewed the last time that it was not."""
        self.gateways = 1
        """How many there were when Redis last answered, with this one."""
        self._lease = OwnLease()
        self._renewing = asyncio.Lock()
        self._lease_requests = Batcher[None](self._renew_for, max_batch=sys.maxsize)  # bounded by the pod's connections
        self._attempted_at = environment.clock()
        self._resync_wanted = asyncio.Event()
        self._round: deque[str] = deque()
        self._step_credit = 0.0

    @property
    def lease_held(self) -> bool:
        """Whether the lease is certainly still there, unless somebody removed it."""
        return self._lease.held(self._clock())

    @property
    def redis_answering_s(self) -> float:
        """For how long Redis has answered: as long as that, whoever did not renew a lease could have."""
        return self._lease.redis_answering_for_s(self._clock())

    @property
    def alive(self) -> bool:
        """Whether renewals are at least attempted."""
        return self._clock() - self._attempted_at < STUCK_AFTER_S

    async def ensure_lease(self) -> None:
        """Have a lease before a session is registered under it; raises Unavailable.

        A process that was frozen for a while may have been removed meanwhile: without a lease nobody would ever look
        at what it writes now.
        """
        if not self._lease.certain(self._clock()):
            await self._lease_requests.run(None)

    async def close(self) -> None:
        """Return when no renewal is under way any more but that of `run_renewals`; who waits for one is given up."""
        await self._lease_requests.close()

    async def _renew_for(self, waiting: Sequence[None]) -> Sequence[None]:
        """Renew once for all that wait: each for itself, they would wait in line for a Redis that does not answer."""
        if not self._lease.certain(self._clock()):
            await self.renew()
        return waiting

    async def renew(self) -> None:
        """Renew the lease once; raises Unavailable."""
        async with self._renewing:
            self._attempted_at = sent_s = self._clock()
            try:
                renewal = await self._registry.renew_lease()
            except Unavailable as error:
                self._lease = self._lease.failed()
                self.last_error = str(error)
                raise
            self._metrics.lease_renewals += 1
            self.gateways = renewal.gateways
            self._lease, cause = self._lease.renewed(existed=renewal.existed, run_id=renewal.run_id, sent_s=sent_s)
        if cause is not None:
            self.request_resync(cause)

    async def run_renewals(self) -> None:
        """Renew for ever, until cancelled."""
        while True:
            await asyncio.sleep(LEASE_RENEW_MS / 1_000)
            try:
                await self.renew()
            except Unavailable as error:
                self._metrics.redis_errors += 1
                _log.warning("the lease was not renewed", extra={"cause": str(error)})
            except Exception:
                _log.exception("the lease was not renewed")

    def request_resync(self, cause: ResyncCause) -> None:
        """Have every session written back and every log reread, as soon as Redis answers."""
        self._metrics.resyncs[cause] += 1
        _log.warning("resync", extra={"cause": cause.value, "sessions": len(self._hub)})
        self._resync_wanted.set()

    async def run_walk(self) -> None:
        """Look at each session once in about `walk_round_s`, and at all of them when a resync is wanted."""
        while True:
            try:
                async with asyncio.timeout(WALK_STEP_S):
                    await self._resync_wanted.wait()
            except TimeoutError:
                pass
            try:
                if self._resync_wanted.is_set():
                    await self._resync()
                else:
                    await self._refresh_all(self.next_walk_step(), resync=False)
                self._backoff.reset()
            except Unavailable as error:
                self._metrics.redis_errors += 1
                _log.warning("the registry was not written", extra={"cause": str(error)})
                await asyncio.sleep(self._backoff.next_delay_s())

    async def _resync(self) -> None:
        self._resync_wanted.clear()
        try:
            await self._refresh_all(self._hub.session_ids(), resync=True)
        except Unavailable:
            self._resync_wanted.set()
            raise
        _log.info("resync done", extra={"sessions": len(self._hub)})

    async def _refresh_all(self, session_ids: list[str], *, resync: bool) -> None:
        for start in range(0, len(session_ids), RESYNC_BATCH_SESSIONS):
            clients = filter(None, map(self._hub.find, session_ids[start : start + RESYNC_BATCH_SESSIONS]))
            results = await asyncio.gather(*(self._refresh(c, resync) for c in clients), return_exceptions=True)
            for result in results:
                if isinstance(result, Unavailable):
                    raise result
                if isinstance(result, Exception):
                    # One user's broken keys must not keep the others from being written.
                    _log.error("a session was not written back", exc_info=result)

    def next_walk_step(self) -> list[str]:
        """Return the sessions of the walk's next second."""
        if not self._round:
            self._round.extend(self._hub.session_ids())
        self._step_credit = min(self._step_credit + len(self._hub) * WALK_STEP_S / self._walk_round_s, len(self._round))
        step = [self._round.popleft() for _ in range(int(self._step_credit))]
        self._step_credit -= len(step)
        return step
