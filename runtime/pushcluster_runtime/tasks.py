"""Cancel tasks, run them until a stop, and unwrap their errors."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

CANCEL_AGAIN_S: Final = 10.0
"""After this time, a task that has not ended is cancelled once more. No clean-up takes as long."""

T = TypeVar("T")


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait for their end. Their errors are ignored, also when the wait itself is cancelled.

    Before Python 3.13, a task group that ends with an error forgets a cancellation that comes meanwhile. A task that
    then goes on is cancelled again.
    """
    for task in tasks:
        task.add_done_callback(_see_error)
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)


def _see_error(task: asyncio.Future[Any]) -> None:
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
        await cancel(stopping, working)


def first_error(error: BaseException) -> BaseException:
    """Return the first error inside nested groups, or the error itself if it is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
