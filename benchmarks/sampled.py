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
from typing import Final

INTERVAL_S: Final = 0.002


class Sampler:
    """Counts functions while its timer runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._counts: Counter[str] = Counter()

    def install(self) -> None:
        """Install the handlers of the three signals."""
        signal.signal(signal.SIGPROF, self._count)
        signal.signal(signal.SIGUSR1, self._start)
        signal.signal(signal.SIGUSR2, self._stop)

    def _start(self, _number: int, _frame: FrameType | None) -> None:
        self._counts.clear()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _count(self, _number: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            self._counts[f"{'/'.join(Path(code.co_filename).parts[-2:])}: {code.co_qualname}"] += 1

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(self._counts))
        partial.replace(self._file)


if __name__ == "__main__":
    Sampler(Path(sys.argv[1])).install()
    sys.argv[:] = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
