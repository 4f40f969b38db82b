"""When the work queue looks at a key, on a clock that the test moves by quarters of a second."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from pushcluster_operator.controller.work_queue import COALESCE_S, IDLE_S, WorkQueue
from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.metrics import QueueMetrics
from tests.support.clock import MovedClock, moved_clock

STEP_S = 0.25
FAILURES = (Unavailable("down"), Refused("no"), Conflict("changed"), ZeroDivisionError("a defect"))


class Bench:
    """A running queue whose looks end as the test says, and the moments of the looks."""

    def __init__(self, clock: MovedClock) -> None:
        self.clock = clock
        self.began_s = clock.now
        self.looks: list[tuple[str, float]] = []
        self.answers: list[float | Exception | None] = []
        """What the next looks end with; after them every look ends the key."""
        self.held: asyncio.Event | None = None
        """Looks wait for it, if there is one."""
        self.registry = CollectorRegistry()
        metrics = QueueMetrics.of(self.registry, "looks", "Looks")
        self.queue = WorkQueue(self._look, metrics=metrics, clock=lambda: clock.now, random=lambda: 0.0)

    async def _look(self, key: str) -> float | None:
        self.looks.append((key, self.now))
        if self.held is not None:
            await self.held.wait()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def now(self) -> float:
        return round(self.clock.now - self.began_s, 2)

    @property
    def moments(self) -> list[float]:
        return [moment for _, moment in self.looks]

    @property
    def depth(self) -> float | None:
        return self.registry.get_sample_value("pushcluster_operator_looks_queue_depth")

    async def add(self, *keys: str) -> None:
        for key in keys:
            await self.queue.add(key)
        await self.clock.move(0)

    async def pass_(self, seconds: float, step_s: float = STEP_S) -> None:
        await self.clock.move(0)
        for _ in range(round(seconds / step_s)):
            await self.clock.move(step_s)


@asynccontextmanager
async def running(answers: Iterable[float | Exception | None] = (), workers: int = 1) -> AsyncIterator[Bench]:
    with moved_clock() as clock:
        bench = Bench(clock)
        bench.answers.extend(answers)
        task = asyncio.create_task(bench.queue.run(workers))
        await clock.move(0)
        yield bench
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_is_looked_at_at_once_and_again_after_the_time_that_the_look_asked_for() -> None:
    async with running([3.0, 0.5]) as bench:
        await bench.add("a")
        await bench.pass_(10)
        assert bench.moments == [0.0, 3.0, 3.5]


@pytest.mark.parametrize("answer", [None, 3600.0, Unavailable("down")], ids=["gone", "much later", "failed"])
async def test_what_happens_during_a_look_is_looked_at_once_a_moment_after_it(answer: float | Exception | None) -> None:
    async with running([answer, None]) as bench:
        bench.held = asyncio.Event()
        await bench.add("a")
        await bench.add("a", "a")
        await bench.pass_(1)
        bench.held.set()
        await bench.pass_(2)
        assert bench.moments == [0.0, 1.25], f"the first step after {COALESCE_S} s"
        await bench.pass_(10)
        assert len(bench.looks) == 2, "the event is forgotten once it was looked at"


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_the_waits_between_failures_double_and_begin_anew_after_a_success(error: Exception) -> None:
    async with running([error, error, error, 1.0, error, None]) as bench:
        await bench.add("a")
        await bench.pass_(10)
        # Half of 0.5, 1 and 2 s, for the random part is nothing; then the second that was asked for.
        assert bench.moments == [0.0, 0.25, 0.75, 1.75, 2.75, 3.0]
        assert bench.registry.get_sample_value("pushcluster_operator_looks_errors_total") == 4


async def test_the_waits_between_failures_end_at_a_bound() -> None:
    async with running([Unavailable("down")] * 12) as bench:
        await bench.add("a")
        await bench.pass_(150, step_s=0.25)
        assert bench.moments[-1] - bench.moments[-2] == 15.0, "half of the longest wait"


async def test_an_event_comes_in_the_place_of_the_look_that_was_due_later() -> None:
    async with running([10.0, 10.0]) as bench:
        await bench.add("a")
        await bench.pass_(1)
        await bench.add("a")
        await bench.pass_(20)
        assert bench.moments == [0.0, 1.0, 11.0], "nothing is left of the look that was due at 10"


async def test_a_look_that_lasts_beyond_the_moment_that_was_planned_before_brings_no_other_key_forward() -> None:
    async with running([30.0, 10.0]) as bench:
        await bench.add("other", "a")
        await bench.pass_(1)
        bench.held = asyncio.Event()
        await bench.add("a")
        await bench.pass_(12)
        bench.held.set()
        await bench.pass_(20)
        assert bench.looks == [("other", 0.0), ("a", 0.0), ("a", 1.0), ("other", 30.0)]


async def test_keys_that_wait_for_a_worker_are_counted_and_each_is_looked_at_once_in_its_order() -> None:
    async with running() as bench:
        bench.held = asyncio.Event()
        await bench.add("a", "b", "c", "b")
        assert bench.depth == 2
        bench.held.set()
        await bench.pass_(1)
        assert [key for key, _ in bench.looks] == ["a", "b", "c"]
        assert bench.depth == 0


async def test_the_key_that_is_due_first_does_not_wait_for_one_that_was_planned_before() -> None:
    async with running([5.0, 2.0]) as bench:
        await bench.add("late", "early")
        await bench.pass_(6)
        assert bench.looks == [("late", 0.0), ("early", 0.0), ("early", 2.0), ("late", 5.0)]


async def test_each_worker_takes_a_key_of_its_own() -> None:
    async with running(workers=2) as bench:
        bench.held = asyncio.Event()
        await bench.add("a", "b", "c")
        assert [key for key, _ in bench.looks] == ["a", "b"]


async def test_an_idle_queue_shows_that_it_lives_and_one_that_is_stuck_does_not() -> None:
    async with running() as bench:
        await bench.pass_(IDLE_S * 3, step_s=1)
        assert bench.clock.now - bench.queue.last_progress_s <= 1
        bench.held = asyncio.Event()
        await bench.add("a")
        stuck_since = bench.clock.now
        await bench.pass_(IDLE_S * 3, step_s=1)
        assert bench.queue.last_progress_s == stuck_since
        bench.held.set()
        await bench.clock.move(0)
        assert bench.queue.last_progress_s == bench.clock.now
