"""What ends a task."""

import asyncio
import gc
from typing import Any

import pytest

from pushcluster_runtime import tasks


async def _fail(after: asyncio.Event) -> None:
    await after.wait()
    raise OSError


async def _go_on_after_each_failure(fails: asyncio.Event) -> None:
    """Like a partition that keeps what it has begun when it loses Redis."""
    while True:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail(fails))
                await asyncio.sleep(3_600)
        except* OSError:
            fails.clear()


@pytest.mark.parametrize("ticks", range(6))
async def test_a_task_ends_also_when_it_is_cancelled_just_as_its_task_group_fails(
    ticks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_S", 0.01)
    fails = asyncio.Event()
    task = asyncio.create_task(_go_on_after_each_failure(fails))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fails.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    await asyncio.wait_for(tasks.cancel(task), 2)
    assert task.cancelled()


async def test_the_error_of_a_task_that_has_ended_is_ignored() -> None:
    fails = asyncio.Event()
    fails.set()
    task = asyncio.create_task(_fail(fails))
    await asyncio.wait([task])
    await tasks.cancel(task)


async def test_whoever_is_cancelled_while_it_waits_has_cancelled_all_tasks_and_seen_their_errors() -> None:
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    others = [asyncio.create_task(asyncio.sleep(3_600)) for _ in range(2)]
    failing = asyncio.create_task(_fail_once_cancelled())
    cancelling = asyncio.create_task(tasks.cancel(others[0], failing, others[1]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cancelling.cancel()
    await asyncio.wait([cancelling, failing, *others])
    assert cancelling.cancelled()
    assert all(each.cancelled() for each in others)
    del failing, cancelling
    gc.collect()
    assert not unseen


async def _fail_once_cancelled() -> None:
    try:
        await asyncio.sleep(3_600)
    finally:
        for _ in range(5):
            await asyncio.sleep(0)
        raise OSError
