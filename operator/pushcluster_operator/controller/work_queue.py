"""A work queue. It holds each key once, runs one piece of work a key at a time, and backs off for each key separately.

Events, timers and failures only say that a key has work. The work itself finds out what to do.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.metrics import QueueMetrics
from pushcluster_runtime.backoff import Backoff

FIRST_RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 30.0
IDLE_S: Final = 30.0
"""How often a worker with nothing to do at least shows that it is alive."""
COALESCE_S: Final = 0.2
"""How long after its work ends a key runs again, if it was added meanwhile. Everything added until then is one run."""

_log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Calls `work(key)` for every key that was added, and again after the seconds that it returns.

    `work` returns None when the key is gone for good. If it raises, the key runs again after a back-off.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        *,
        metrics: QueueMetrics,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._work = work
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._backoffs: dict[K, Backoff] = {}
        self._changed = asyncio.Condition()
        self.last_progress_s = clock()
        """When a worker last finished or had nothing to do, by `clock`. The liveness probe reads it."""

    async def add(self, key: K) -> None:
        """Run the key as soon as a worker is free. If it is running now, run it once more afterwards."""
        async with self._changed:
            if key in self._running:
                self._again.add(key)
            else:
                self._schedule(key, self._clock())
            self._changed.notify()

    async def run(self, workers: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._run_worker())

    async def _run_worker(self) -> None:
        while True:
            key = await self._next()
            delay = await self._run_work(key)
            async with self._changed:
                self.last_progress_s = self._clock()
                self._running.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    delay = COALESCE_S
                if delay is None:
                    self._backoffs.pop(key, None)
                else:
                    self._schedule(key, self._clock() + delay)
                self._changed.notify()

    async def _run_work(self, key: K) -> float | None:
        backoff = self._backoffs.setdefault(key, Backoff(self._random, FIRST_RETRY_S, MAX_RETRY_S))
        with self._metrics.measure() as measured:
            try:
                delay = await self._work(key)
            except (Conflict, Refused, Unavailable) as error:
                delay = backoff.next_delay_s()
                measured.failed = True
                _log.warning(
                    "the work failed; it is tried again",
                    extra={"key": str(key), "error": str(error), "delay_s": round(delay, 1)},
                )
            except Exception:
                # A defect that one key shows must not stop the work for all others.
                delay = backoff.next_delay_s()
                measured.failed = True
                _log.exception(
                    "the work failed unexpectedly; it is tried again",
                    extra={"key": str(key), "delay_s": round(delay, 1)},
                )
            else:
                backoff.reset()
        return delay

    async def _next(self) -> K:
        async with self._changed:
            while True:
                now = self._clock()
                self.last_progress_s = now
                key, wait = self._pop(now)
                if key is not None:
                    self._running.add(key)
                    return key
                # Not `wait_for`: in Python 3.11 it drops a cancellation that comes together with a notification.
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(wait, IDLE_S)):
                        await self._changed.wait()

    def _pop(self, now: float) -> tuple[K | None, float]:
        """Return a key that is due, or the seconds until one is."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:
                heapq.heappop(self._heap)  # the key was rescheduled since
                continue
            if due > now:
                return None, due - now
            heapq.heappop(self._heap)
            del self._due[key]
            self._metrics.depth.set(len(self._due))
            return key, 0.0
        return None, IDLE_S

    def _schedule(self, key: K, due: float) -> None:
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, key))
            self._metrics.depth.set(len(self._due))
