"""Running many schedules on all cores."""

import gc
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import chain
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Final

from tests.simulation.mutants import MUTANTS, SHOWN_BY
from tests.simulation.programs import installed
from tests.simulation.world import Result, run_schedule

CHUNK: Final = 250
COLLECT_EVERY: Final = 50
"""Schedules between two garbage collections; the collector's own pace costs a tenth of the time."""


def run_many(first: int, count: int) -> Iterator[Result]:
    """Run schedules, spread over the processors; yield those that failed."""
    with worker_processes() as pool:
        chunks = [
            pool.submit(run_chunk, start, min(CHUNK, first + count - start))
            for start in range(first, first + count, CHUNK)
        ]
        for chunk in as_completed(chunks):
            yield from chunk.result()


def worker_processes() -> ProcessPoolExecutor:
    """Return a process for each processor. They end with this one, however it ends."""
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_end_with_the_parent)


def _end_with_the_parent() -> None:
    if (parent := parent_process()) is not None:
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def run_chunk(first: int, count: int) -> list[Result]:
    """Run schedules in this process; return those that failed."""
    failed = []
    with installed():
        gc.disable()
        try:
            for seed in range(first, first + count):
                result = run_schedule(seed)
                if not result.ok:
                    failed.append(result)
                if seed % COLLECT_EVERY == 0:
                    gc.collect()
        finally:
            gc.enable()
    return failed


def find(mutant: str, first: int, count: int) -> Result | None:
    """Return the schedule that is known to find a mutant, or else the first one that does.

    A schedule that fails without the mutant too shows nothing of it.
    """
    known = [SHOWN_BY[mutant]] if mutant in SHOWN_BY else []
    with installed():
        for seed in chain(known, range(first, first + count)):
            with MUTANTS[mutant]():
                result = run_schedule(seed)
            if not result.ok and run_schedule(seed).ok:
                return result
    return None
