"""Joins calls of many clients into few round trips."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from pushcluster_gateway.registry.turns import TurnQueue

I = TypeVar("I")  # noqa: E741 - an item


class Batcher(Generic[I]):
    """Runs items in batches: those of one tick of the event loop, and those that come while a batch runs.

    `run_many` returns a reply for each item, in order. If a reply is an exception, `run` raises it. If `run_many`
    raises, so does every `run` of that batch. The callers of `run` bound the number of waiting items. Users are served
    in turn: one with many waiting items does not keep the others waiting for all of them.
    """

    def __init__(
        self, run_many: Callable[[Sequence[I]], Awaitable[Sequence[Any]]], *, max_batch: int, max_in_flight: int = 1
    ) -> None:
        self._run_many = run_many
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._waiting: TurnQueue[tuple[I, asyncio.Future[Any]]] = TurnQueue()
        self._planned = False
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, item: I, user: str = "") -> Any:
        """Return the reply to the item. Raise what `run_many` raises or returns as an exception.

        `user` is whose turn it takes; empty for items that are served as they come.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((item, future), user)
        if not self._planned:
            self._planned = True
            loop.call_soon(self._start)
        return await future

    async def close(self) -> None:
        """Cancel waiting items and wait for running batches. Then the connection below can be closed."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        self._planned = False
        while self._waiting and len(self._running) < self._max_in_flight:
            batch: list[tuple[I, asyncio.Future[Any]]] = []
            while self._waiting and len(batch) < self._max_batch:
                batch.append(self._waiting.popleft())
            task = asyncio.get_running_loop().create_task(self._run_batch(batch))
            self._running.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _run_batch(self, batch: list[tuple[I, asyncio.Future[Any]]]) -> None:
        try:
            replies = await self._run_many([item for item, _ in batch])
        except Exception as error:
            replies = [error] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
