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
from tests.support.waiting import eventually

REGISTRY_QUEUE = "looks"


@asynccontextmanager
async def running(
    work: Callable[[str], Awaitable[float | None]], workers: int = 2
) -> AsyncIterator[tuple[WorkQueue[str], CollectorRegistry]]:
    registry = CollectorRegistry()
    metrics = QueueMetrics.of(registry, REGISTRY_QUEUE, "Looks")
    loop = asyncio.get_running_loop()
    queue = WorkQueue(work, metrics=metrics, clock=loop.time, random=lambda: 0.0)
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
    monkeypatch.setattr(queue_module, "FIRST_RETRY_S", 0.01)


async def test_a_key_is_looked_at_by_one_worker_at_a_time_and_once_more_for_all_that_came_meanwhile() -> None:
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


async def test_a_key_comes_back_after_the_time_that_it_asked_for() -> None:
    looks = 0

    async def work(_: str) -> float | None:
        nonlocal looks
        looks += 1
        return 0.01 if looks < 4 else None

    async with running(work) as (queue, registry):
        await queue.add("a")
        await eventually(lambda: looks == 4, 2)
        await eventually(lambda: registry.get_sample_value("pushcluster_operator_looks_queue_depth") == 0, 2)


@pytest.mark.parametrize("error", [Unavailable("down"), ZeroDivisionError("a defect")])
async def test_a_key_that_failed_comes_back_and_others_are_not_affected(error: Exception) -> None:
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
