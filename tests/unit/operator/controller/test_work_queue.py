"""The work queue: each key once, one at a time, again after a failure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry

from pushcluster_operator.controller import work_queue as queue_module
from pushcluster_operator.controller.work_queue import WorkQueue
from pushcluster_operator.errors import Unavailable
from pushcluster_operator.metrics import QueueMetrics
from tests.support.clock import moved_clock
from tests.support.waiting import eventually

REGISTRY_QUEUE = "looks"
MOMENT_S = 2**-10
"""A millisecond whose sums are exact."""


Work = Callable[[str], Awaitable[float | None]]


def new_queue(work: Work, registry: CollectorRegistry) -> WorkQueue[str]:
    metrics = QueueMetrics.of(registry, REGISTRY_QUEUE, "Looks")
    return WorkQueue(work, metrics=metrics, clock=asyncio.get_running_loop().time, random=lambda: 0.0)


@asynccontextmanager
async def running(work: Work, workers: int = 2) -> AsyncIterator[tuple[WorkQueue[str], CollectorRegistry]]:
    registry = CollectorRegistry()
    queue = new_queue(work, registry)
    task = asyncio.create_task(queue.run(workers))
    try:
        yield queue, registry
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "COALESCE_S", 0.0)


async def test_a_key_runs_in_one_worker_at_a_time_and_once_more_for_all_that_was_added_meanwhile() -> None:
    looks, under_way, most, release = 0, 0, 0, asyncio.Event()

    async def work(_: str) -> None:
        nonlocal looks, under_way, most
        looks += 1
        under_way += 1
        most = max(most, under_way)
        await release.wait()
        under_way -= 1

    async with running(work) as (queue, _):
        await queue.add("a")
        await eventually(lambda: looks == 1, 2)
        for _ in range(10):
            await queue.add("a")
            await asyncio.sleep(0)
        release.set()
        await eventually(lambda: looks == 2, 2)
        await eventually(lambda: under_way == 0, 2)
    assert (looks, most) == (2, 1)


async def test_a_slow_key_does_not_hold_up_another() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)
        if key == "slow":
            await asyncio.Event().wait()

    async with running(work) as (queue, _):
        await queue.add("slow")
        await queue.add("quick")
        await eventually(lambda: "quick" in seen, 2)


async def test_a_key_comes_back_after_the_time_that_it_asked_for_and_not_before() -> None:
    looks = 0

    async def work(_: str) -> float | None:
        nonlocal looks
        looks += 1
        return 60.0 if looks < 3 else None

    with moved_clock() as clock:
        async with running(work) as (queue, registry):
            await queue.add("a")
            await clock.move(0)
            for seen in (1, 2):
                await clock.move(60.0 - MOMENT_S)
                assert looks == seen
                await clock.move(MOMENT_S)
                assert looks == seen + 1
            assert registry.get_sample_value("pushcluster_operator_looks_queue_depth") == 0


@pytest.mark.parametrize("error", [Unavailable("down"), ZeroDivisionError("a defect")])
async def test_a_key_that_failed_comes_back_and_others_are_not_affected(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "FIRST_RETRY_S", 0.01)
    looks: list[str] = []

    async def work(key: str) -> None:
        looks.append(key)
        if key == "bad" and looks.count("bad") < 3:
            raise error

    async with running(work, workers=1) as (queue, registry):
        await queue.add("bad")
        await queue.add("good")
        await eventually(lambda: looks.count("bad") == 3 and looks.count("good") == 1, 2)
        assert registry.get_sample_value("pushcluster_operator_looks_errors_total") == 2


async def test_an_event_cuts_the_wait_short() -> None:
    looks = 0

    async def work(_: str) -> float:
        nonlocal looks
        looks += 1
        return 3600.0

    async with running(work) as (queue, _):
        await queue.add("a")
        await eventually(lambda: looks == 1, 2)
        await queue.add("a")
        await eventually(lambda: looks == 2, 2)


@pytest.mark.parametrize("turns", range(10))
async def test_it_ends_when_it_is_stopped_while_a_worker_wakes_up(turns: int) -> None:
    async def work(_: str) -> None:
        await asyncio.sleep(0)

    queue = new_queue(work, CollectorRegistry())
    task = asyncio.create_task(queue.run(2))
    for _ in range(10):
        await asyncio.sleep(0)
    await queue.add("a")
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=2)
    assert done
