"""Wait on conditions, never on time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, cast, overload

POLL_S: Final = 0.02
T = TypeVar("T")


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], within_s: float) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], within_s: float) -> T: ...
async def eventually(predicate: Callable[[], T] | Callable[[], Awaitable[T]], within_s: float) -> T:
    """Return the predicate's first true answer; an AssertionError of the predicate counts as false.

    Fails with the last false answer, or with the last AssertionError of the predicate itself.
    """
    deadline = time.monotonic() + within_s
    while True:
        refusal: AssertionError | None = None
        answer: T | None = None
        try:
            got = predicate()
            answer = await cast(Awaitable[T], got) if isinstance(got, Awaitable) else got
        except AssertionError as error:
            refusal = error
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise refusal or AssertionError(f"not within {within_s} s; the last answer was {answer!r}")
        await asyncio.sleep(POLL_S)


def eventually_sync(predicate: Callable[[], T], within_s: float) -> T:
    """Do the same without an event loop."""
    deadline = time.monotonic() + within_s
    while True:
        refusal: AssertionError | None = None
        answer: T | None = None
        try:
            answer = predicate()
        except AssertionError as error:
            refusal = error
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise refusal or AssertionError(f"not within {within_s} s; the last answer was {answer!r}")
        time.sleep(POLL_S)
