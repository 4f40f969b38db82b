"""Run a program and record where its processor time goes: `python -m benchmarks.sampled FILE MODULE`.

SIGUSR1 starts the counting. After each INTERVAL_S of processor time, the Python function that then runs gets a sample.
(Time in C counts for its caller.) SIGUSR2 stops the counting and writes FILE as JSON: function → samples.
"""

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

INTERVAL_S: Final = 0.002


class Sampler:
    """Counts functions while its timer runs."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Function → samples."""
        signal.signal(signal.SIGPROF, self._count)

    def start(self) -> None:
        """Begin to count, or go on."""
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def stop(self) -> None:
        """Count nothing more."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _count(self, _number: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            self.counts[f"{'/'.join(Path(code.co_filename).parts[-2:])}: {code.co_qualname}"] += 1


class Recorder(Protocol):
    """What records something between two signals."""

    @property
    def counts(self) -> dict[str, int] | list[float]:
        """What it has recorded. JSON can carry it."""

    def start(self) -> None:
        """Begin to record, or go on."""

    def stop(self) -> None:
        """Record nothing more."""


def dump_on_signals(sampler: Recorder, file: Path) -> None:
    """Start to count at SIGUSR1. At SIGUSR2 stop, and write the counts to `file`."""

    def start(_number: int, _frame: FrameType | None) -> None:
        sampler.counts.clear()
        sampler.start()

    def dump(_number: int, _frame: FrameType | None) -> None:
        # Another signal must wait: its handler would run inside this one, and take the partial file away.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
        sampler.stop()
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(sampler.counts))
        partial.replace(file)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1, signal.SIGUSR2))

    signal.signal(signal.SIGUSR1, start)
    signal.signal(signal.SIGUSR2, dump)


if __name__ == "__main__":
    dump_on_signals(Sampler(), Path(sys.argv[1]))
    sys.argv[:] = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
