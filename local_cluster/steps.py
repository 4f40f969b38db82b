"""Runs steps in parallel. Steps wait for each other and report how long they take."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from local_cluster.process import go_on, stop_all


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work.

    `usual_s` is how long it takes on two cores. `needs` names the steps that must end before it starts. After these,
    `is_done` says whether there is nothing to do. `share` returns how much of a long step is done.
    """

    name: str
    title: str
    usual_s: int
    action: Callable[[], None]
    needs: tuple[str, ...] = ()
    is_done: Callable[[], bool] = lambda: False
    share: Callable[[], float] | None = None


def describe_duration(seconds: float) -> str:
    """Return a duration for people: `8 s`, `4 min`, `6.5 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 30) / 2:g} min"


def describe_start(number: int, total: int, step: Step) -> str:
    """Return the line that announces a step: `[ 3/9] Kubernetes (usually 6 min)`."""
    return f"[{number:2}/{total}] {step.title} (usually {describe_duration(step.usual_s)})"


def describe_end(number: int, total: int, step: Step, seconds: float) -> str:
    """Return the line that ends a step."""
    return f"[{number:2}/{total}] {step.title}: done in {describe_duration(seconds)}"


def describe_skipped(number: int, total: int, step: Step) -> str:
    """Return the line for a step that has nothing to do."""
    return f"[{number:2}/{total}] {step.title}: up to date"


def describe_progress(number: int, total: int, step: Step, share: float, seconds: float) -> str:
    """Return the progress line of a long step, of which `share` (0 to 1) is done after `seconds`.

    The line gives the remaining time once enough is done for an estimate.
    """
    rest = f", about {describe_duration(seconds * (1 - share) / share)} left" if 0.1 < share < 1 else ""
    return f"[{number:2}/{total}] {step.title}: {share:.0%}{rest}"


def plan_next(steps: Sequence[Step], started: set[str], ended: set[str]) -> list[Step]:
    """Return the steps that can start now, in the given order."""
    return [step for step in steps if step.name not in started and ended.issuperset(step.needs)]


class Reporter:
    """Prints whole lines, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """Print one line at once."""
        with self._lock:
            print(line, flush=True)

    def warn(self, line: str) -> None:
        """Print one line to standard error."""
        with self._lock:
            print(line, file=sys.stderr, flush=True)


PROGRESS_EVERY_S: Final = 60.0


@dataclass(slots=True)
class _Run:
    """The steps of one run, and when they began."""

    steps: Sequence[Step]
    reporter: Reporter
    began: dict[str, float] = field(default_factory=dict)

    def perform(self, number: int, step: Step) -> None:
        total = len(self.steps)
        if step.is_done():
            self.reporter.say(describe_skipped(number, total, step))
            return
        self.reporter.say(describe_start(number, total, step))
        self.began[step.name] = began = time.monotonic()
        step.action()
        self.began.pop(step.name)
        self.reporter.say(describe_end(number, total, step, time.monotonic() - began))

    def tell_progress(self) -> None:
        for number, step in enumerate(self.steps, 1):
            began = self.began.get(step.name)
            if began is not None and step.share is not None:
                seconds = time.monotonic() - began
                self.reporter.say(describe_progress(number, len(self.steps), step, step.share(), seconds))


def run_steps(steps: Sequence[Step], reporter: Reporter) -> None:
    """Run all steps. Each starts as soon as the steps that it needs have ended.

    The first error stops the other steps and is raised.
    """
    run = _Run(steps, reporter)
    try:
        with ThreadPoolExecutor(max_workers=max(1, len(steps))) as pool:
            _run_in(pool, run)
    finally:
        go_on()


def _run_in(pool: ThreadPoolExecutor, run: _Run) -> None:
    numbers = {step.name: number for number, step in enumerate(run.steps, 1)}
    started: set[str] = set()
    ended: set[str] = set()
    running: dict[Future[None], str] = {}
    try:
        while len(ended) < len(run.steps):
            for step in plan_next(run.steps, started, ended):
                started.add(step.name)
                running[pool.submit(run.perform, numbers[step.name], step)] = step.name
            finished, _ = wait(running, timeout=PROGRESS_EVERY_S, return_when=FIRST_COMPLETED)
            if not finished:
                run.tell_progress()
            for future in finished:
                future.result()
                ended.add(running.pop(future))
    except BaseException:
        # The pool waits for its threads, and the threads wait for the processes that they started.
        stop_all()
        raise
