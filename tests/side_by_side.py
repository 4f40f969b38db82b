"""Run the tests in five parts at once: on kind, in three parts with services, and without any.

All but the last mostly wait for pods and services, so two cores have time for the others meanwhile. Each part with
services has a Redis and a RabbitMQ of its own.

`make test` runs `python -m tests.side_by_side [ARGUMENT …]`. Options go to each run. If any argument does not begin
with `-`, such as a path, there is one run with the arguments as they are.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parents[1]
LOGS: Final = Path("build")
"""Where each run beside the first prints to, until that is shown at the end."""
BESIDE: Final = {
    "e2e": ("tests/e2e",),
    "dispatcher": ("tests/integration/dispatcher",),
    "faults": ("tests/chaos", "tests/conformance"),
    "pure": ("tests/fuzz", "tests/simulation", "tests/static", "tests/unit"),
}
"""The runs beside the first, which has all other tests: name → folders."""
NOTHING_SELECTED: Final = 5
"""pytest's exit code when no test was selected."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pytest. Without a name, it is shown as it goes."""

    name: str
    arguments: tuple[str, ...]

    @property
    def log(self) -> Path:
        """The file that has its output."""
        return LOGS / f"test-{self.name}.log"


def plan_runs(arguments: Sequence[str]) -> list[Run]:
    """Return the runs. The first one, with all tests that no other has, is shown as it goes."""
    if any(not each.startswith("-") for each in arguments):
        return [Run("", tuple(arguments))]
    elsewhere = [folder for folders in BESIDE.values() for folder in folders]
    runs = [Run("", (*(f"--ignore={folder}" for folder in elsewhere), *arguments))]
    for name, folders in BESIDE.items():
        # A cache of its own: with one for all, `--lf` would know the failures of the run that ended last.
        cache = ("-o", f"cache_dir=build/pytest-cache-{name}")
        runs.append(Run(name, (*folders, *cache, *arguments)))
    return runs


def judge(codes: Sequence[int]) -> int:
    """Return the exit code of all runs: the first that failed. Some of them may have selected no test, not all."""
    failed = [code for code in codes if code not in {0, NOTHING_SELECTED}]
    return failed[0] if failed else min(codes)


def run_side_by_side(commands: Sequence[Sequence[str]], logs: Sequence[Path]) -> int:
    """Run the commands at once, and return their exit code. Each but the first prints into its log, shown at the end.

    Ctrl-C and SIGTERM end the runs, not this process: each of them takes down what it has started, and is waited for.
    """
    with ExitStack() as files:
        outputs: list[IO[bytes] | None] = [None]
        for log in logs:
            log.parent.mkdir(parents=True, exist_ok=True)
            outputs.append(files.enter_context(log.open("wb")))
        runs = [
            subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
            for command, output in zip(commands, outputs, strict=True)
        ]
        # Set after the runs began, so that they do not inherit it. A terminal sends them Ctrl-C itself.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: _interrupt(runs))
        codes = [runs[0].wait()]
        for run, log in zip(runs[1:], logs, strict=True):
            if run.poll() is None:
                print(f"Waiting for other tests. Their output so far: {log}", flush=True)
            codes.append(run.wait())
    for log in logs:
        print(log.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
    return judge(codes)


def _interrupt(runs: Sequence[subprocess.Popen[bytes]]) -> None:
    for each in runs:
        each.send_signal(signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Run everything, and return the exit code."""
    runs = plan_runs(arguments)
    commands = [[sys.executable, "-m", "pytest", *run.arguments] for run in runs]
    return run_side_by_side(commands, [ROOT / run.log for run in runs[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
