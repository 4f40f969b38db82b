"""Keeps this gateway's entries in the registry valid: renews the lease, walks over the sessions, and resyncs."""

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
from pushcluster_gateway.registry.walk_pace import plan_round_s
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.hub import Hub
from pushcluster_runtime.backoff import Backoff

WALK_STEP_S: Final = 1.0
RESYNC_BATCH_SESSIONS: Final = 200
STUCK_AFTER_S: Final = 60.0
"""The process counts as stuck when it has not even tried to renew its lease for this long."""

_log = logging.getLogger(__name__)

Refresh = Callable[[Client, bool], Awaitable[None]]
"""Writes one session again. With True, it also rereads the logs. Raises Unavailable."""


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
        broker_away_s: Callable[[], float],
    ) -> None:
        """`broker_away_s` returns for how many seconds there has been no connection to RabbitMQ; 0 with one."""
        self._registry = registry
        self._hub = hub
        self._refresh = refresh
        self._metrics = metrics
        self._clock = environment.clock
        self._backoff = Backoff(environment.random)
        self._walk_round_s = walk_round_s
        self._broker_away_s = broker_away_s
        self.last_error = "Redis has not answered yet"
        """Why the last failed renewal failed."""
        self.gateways = 1
        """Number of gateways at the last answer of Redis, including this one."""
        self._lease = OwnLease()
        self._renewing = asyncio.Lock()
        self._lease_requests = Batcher[None](
            self._renew_for, max_batch=sys.maxsize
        )  # the number of connections bounds it
        self._attempted_at = environment.clock()
        self._resync_wanted = asyncio.Event()
        self._round: deque[str] = deque()
        self._step_credit = 0.0

    @property
    def lease_held(self) -> bool:
        """Whether the lease certainly still exists, unless somebody removed it."""
        return self._lease.held(self._clock())

    @property
    def redis_answering_s(self) -> float:
        """How long Redis has been answering, in seconds.

        A gateway that has not renewed its lease within this time had the chance to.
        """
        return self._lease.redis_answering_for_s(self._clock())

    @property
    def alive(self) -> bool:
        """Whether the process still tries to renew the lease."""
        return self._clock() - self._attempted_at < STUCK_AFTER_S

    async def ensure_lease(self) -> None:
        """Take the lease unless it is certain. Raise Unavailable.

        Call this before a session is registered. A process that was frozen may have been removed meanwhile. Without a
        lease, no clean-up would ever find what it writes now.

        When Redis has been silent for so long that the lease is over, nobody waits for one more answer. The renewals
        notice when it is back.
        """
        if self._lease.lapsed(self._clock()):
            raise Unavailable(self.last_error)
        if not self._lease.certain(self._clock()):
            await self._lease_requests.run(None)

    async def close(self) -> None:
        """Cancel callers that wait in `ensure_lease`. Return when no renewal for them is running any more."""
        await self._lease_requests.close()

    async def _renew_for(self, waiting: Sequence[None]) -> Sequence[None]:
        """Renew once for all waiting callers, so that they do not queue for a Redis that does not answer."""
        if not self._lease.certain(self._clock()):
            await self.renew()
        return waiting

    async def renew(self) -> None:
        """Renew the lease once. Raise Unavailable."""
        async with self._renewing:
            self._attempted_at = sent_s = self._clock()
            try:
                renewal = await self._registry.renew_lease(self._broker_away_s())
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
        """Renew the lease at regular intervals, until cancelled."""
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
        """Have every session written again and every log reread, as soon as Redis answers."""
        self._metrics.resyncs[cause] += 1
        _log.warning(
            "resync: all sessions are written again and all logs reread",
            extra={"cause": cause.value, "sessions": len(self._hub)},
        )
        self._resync_wanted.set()

    async def run_walk(self) -> None:
        """Refresh each session once in a round (`walk_pace.py`), and all of them when a resync is wanted."""
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
                _log.warning("sessions were not written to the registry: trying again", extra={"cause": str(error)})
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
                    # An error in one user's keys must not stop the refresh of others.
                    _log.error("a session was not written to the registry", exc_info=result)

    def next_walk_step(self) -> list[str]:
        """Return the sessions that the walk refreshes in the next second."""
        if not self._round:
            self._round.extend(self._hub.session_ids())
        round_s = plan_round_s(
            self._walk_round_s,
            sessions=len(self._hub),
            gateways=self.gateways,
            copies_come=not self._broker_away_s(),
        )
        self._step_credit = min(self._step_credit + len(self._hub) * WALK_STEP_S / round_s, len(self._round))
        step = [self._round.popleft() for _ in range(int(self._step_credit))]
        self._step_credit -= len(step)
        return step
