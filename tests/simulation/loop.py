"""A deterministic event loop: real coroutines, virtual time, nothing from outside.

What runs belongs to an `Owner`, a process of the simulated world that can be killed. Everything is ordered by virtual
time and then by the order in which it was planned, and hashes of tasks are numbers, so that even a set of them is
 walked in the same order every time.
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any


class _Task(asyncio.Task[Any]):
    def __init__(self, coro: Coroutine[Any, Any, Any], loop: "SimulatedLoop") -> None:
        loop.tasks_made += 1
        self._number = loop.tasks_made
        self.owner = loop.owner
        super().__init__(coro, loop=loop, name="-")  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return self._number


class Handle:
    """A planned call."""

    __slots__ = ("args", "callback", "owner", "when_s")

    def __init__(self, when_s: float, callback: Callable[..., Any], args: tuple[Any, ...], owner: "Owner") -> None:
        self.when_s = when_s
        self.callback: Callable[..., Any] | None = callback
        self.args = args
        self.owner = owner

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.when_s


class Owner:
    """A simulated process."""

    __slots__ = ("backlog", "dead", "name", "stopping", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.stopping = False
        """It was told to end."""
        self.backlog: list[Handle] | None = None
        """While it stands still: what it would have done, in order. None while it runs."""
        self.tasks: list[_Task] = []


class SimulatedLoop:
    """What asyncio needs of a loop when no byte leaves the process."""

    def __init__(self) -> None:
        self.owner = Owner("world")
        self.errors: list[str] = []
        """Exceptions that nobody caught."""
        self._owners = [self.owner]
        self._now = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._planned = 0
        self.tasks_made = 0
        self._previous: asyncio.AbstractEventLoop | None = None

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Handle:
        # A task goes on as whoever began it, not as whoever woke it up.
        woken = getattr(callback, "__self__", None)
        owner = woken.owner if type(woken) is _Task else self.owner
        handle = Handle(self._now, callback, args, owner)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Handle:
        handle = Handle(when, callback, args, self.owner)
        self._planned += 1
        heapq.heappush(self._timers, (when, self._planned, handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Handle:
        return self.call_at(self._now + delay, callback, *args)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None) -> _Task:
        task = _Task(coro, self)
        self.owner.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {error!r}")

    # What the simulation calls

    def run_as(self, owner: Owner, call: Callable[..., Any], *args: Any) -> Any:
        """Run a call on behalf of a process."""
        previous, self.owner = self.owner, owner
        try:
            return call(*args)
        finally:
            self.owner = previous

    def new_owner(self, name: str) -> Owner:
        owner = Owner(name)
        self._owners.append(owner)
        return owner

    def kill(self, owner: Owner) -> None:
        """End a process in the middle of whatever it does. Its ports must do nothing from here on."""
        owner.dead = True
        for task in owner.tasks:
            if not task.done():
                task.cancel()
        owner.tasks.clear()
        self.resume(owner)

    def pause(self, owner: Owner) -> None:
        """Let a process do nothing, as SIGSTOP does: what comes for it and what it has planned waits."""
        if owner.backlog is None and not owner.dead:
            owner.backlog = []

    def resume(self, owner: Owner) -> None:
        """Let it do at once, and in order, what has waited."""
        backlog, owner.backlog = owner.backlog, None
        self._ready.extend(backlog or ())

    def begin(self) -> None:
        """Become the running loop."""
        self._previous = events._get_running_loop()
        events._set_running_loop(self)  # type: ignore[arg-type]

    def run(self, until_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Run everything up to a time, or until `stop` says so between two timers."""
        ready, timers = self._ready, self._timers
        while True:
            while ready:
                handle = ready.popleft()
                callback = handle.callback
                if callback is not None:
                    owner = handle.owner
                    if owner.backlog is not None:
                        owner.backlog.append(handle)
                        continue
                    self.owner = owner
                    callback(*handle.args)
            if not timers or timers[0][0] > until_s or stop():
                break
            when, _, handle = heapq.heappop(timers)
            if handle.callback is not None:
                self._now = when
                ready.append(handle)
        self.owner = self._owners[0]
        if not timers or timers[0][0] > until_s:
            self._now = max(self._now, until_s)

    def end(self) -> None:
        """End every process and stop being the running loop."""
        for owner in self._owners:
            self.kill(owner)
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if handle.callback is not None:
                self.owner = handle.owner
                handle.callback(*handle.args)
        self._timers.clear()
        events._set_running_loop(self._previous)
