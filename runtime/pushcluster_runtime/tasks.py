"""Cancel tasks, run them until a stop, and unwrap their errors."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end. Its error is ignored."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns. Once `stop` is set, cancel `work` and return None."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        await cancel(stopping)
        await cancel(working)


def first_error(error: BaseException) -> BaseException:
    """Return the first error inside nested groups, or the error itself if it is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
