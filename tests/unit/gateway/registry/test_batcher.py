"""Calls of many clients joined into one."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_gateway.registry.batcher import Batcher


class TestBatcher:
    async def test_what_comes_in_one_tick_runs_together_in_bounded_batches(self) -> None:
        batches: list[list[int]] = []

        async def run_many(items: Sequence[int]) -> list[int]:
            batches.append(list(items))
            return [item * 10 for item in items]

        batcher = Batcher(run_many, max_batch=3)
        assert await asyncio.gather(*(batcher.run(n) for n in range(5))) == [0, 10, 20, 30, 40]
        assert batches == [[0, 1, 2], [3, 4]]

    async def test_what_comes_while_a_batch_runs_waits_for_it(self) -> None:
        running = 0

        async def run_many(items: Sequence[int]) -> Sequence[int]:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1
            return items

        batcher = Batcher(run_many, max_batch=2)
        assert await asyncio.gather(*(batcher.run(n) for n in range(20))) == list(range(20))

    async def test_an_error_reply_fails_one_item_and_a_failed_batch_fails_all(self) -> None:
        async def run_many(items: Sequence[int]) -> list[Any]:
            if 9 in items:
                raise Unavailable("away")
            return [ValueError("no") if item == 1 else item for item in items]

        batcher = Batcher(run_many, max_batch=2)
        got = await asyncio.gather(*(batcher.run(n) for n in (0, 1, 9, 3, 4)), return_exceptions=True)
        assert [type(each) for each in got] == [int, ValueError, Unavailable, Unavailable, int]

    async def test_after_close_nothing_runs_and_nobody_waits(self) -> None:
        release = asyncio.Event()
        finished: list[int] = []

        async def run_many(items: Sequence[int]) -> Sequence[int]:
            await release.wait()
            finished.extend(items)
            return items

        batcher = Batcher(run_many, max_batch=1)
        running, waiting = (asyncio.create_task(batcher.run(n)) for n in (1, 2))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        release.set()
        await closing
        assert await running == 1
        assert finished == [1]
        with pytest.raises(asyncio.CancelledError):
            await waiting

    async def test_a_caller_that_left_disturbs_nobody(self) -> None:
        async def run_many(items: Sequence[int]) -> Sequence[int]:
            await asyncio.sleep(0)
            return items

        batcher = Batcher(run_many, max_batch=5)
        leaves = asyncio.create_task(batcher.run(1))
        stays = asyncio.create_task(batcher.run(2))
        await asyncio.sleep(0)
        leaves.cancel()
        assert await stays == 2
