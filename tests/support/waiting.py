"""Wait on conditions, never on time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast, overload

POLL_S: Final = 0.02
WITHIN_S: Final = 60.0
"""What a busy machine may need. It costs nothing where a test passes, and says nothing about how fast anything is."""
T = TypeVar("T")


class _Attempt:
    """One look at the condition: an error of the kind that means "not yet" is kept, others pass."""

    def __init__(self, not_yet: type[Exception]) -> None:
        self._not_yet = not_yet
        self.answer: Any = None
        self.refusal: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> bool:
        if isinstance(error, self._not_yet):
            self.refusal = error
        return self.refusal is not None


def _attempts(within_s: float, what: str, not_yet: type[Exception] = AssertionError) -> Iterator[_Attempt]:
    deadline = time.monotonic() + within_s
    while True:
        attempt = _Attempt(not_yet)
        yield attempt
        if time.monotonic() >= deadline:
            if isinstance(attempt.refusal, AssertionError):
                raise attempt.refusal
            raise AssertionError(f"not within {within_s} s: {what}; last seen: {attempt.refusal or attempt.answer!r}")


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], within_s: float = WITHIN_S) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], within_s: float = WITHIN_S) -> T: ...
async def eventually(predicate: Callable[[], T] | Callable[[], Awaitable[T]], within_s: float = WITHIN_S) -> T:
    """Return the predicate's first true answer; an AssertionError of the predicate counts as false.

    Fails with the last false answer, or with the last AssertionError of the predicate itself.
    """
    for attempt in _attempts(within_s, "a true answer"):
        with attempt:
            got = predicate()
            attempt.answer = await cast(Awaitable[T], got) if isinstance(got, Awaitable) else got
        if attempt.answer:
            return cast(T, attempt.answer)
        await asyncio.sleep(POLL_S)
    raise AssertionError("attempts end with an answer or an error")


async def settle() -> None:
    """Let every task run as far as it can without the test."""
    for _ in range(20):
        await asyncio.sleep(0)


def eventually_sync(
    predicate: Callable[[], T],
    within_s: float = WITHIN_S,
    *,
    what: str = "a true answer",
    not_yet: type[Exception] = AssertionError,
    poll_s: float = POLL_S,
) -> T:
    """Do the same without an event loop; an error of the kind `not_yet` counts as false."""
    for attempt in _attempts(within_s, what, not_yet):
        with attempt:
            attempt.answer = predicate()
        if attempt.answer:
            return cast(T, attempt.answer)
        time.sleep(poll_s)
    raise AssertionError("attempts end with an answer or an error")
