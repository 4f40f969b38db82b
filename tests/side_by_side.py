"""Run the tests on kind beside all others: they mostly wait for pods, so two cores have time for the rest meanwhile.

`make test` runs `python -m tests.side_by_side [ARGUMENT …]`. Options go to both runs. If any argument does not begin
with `-`, such as a path, there is one run with the arguments as they are.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ON_KIND: Final = "tests/e2e"
LOG: Final = Path("build/test-e2e.log")
"""What the run beside prints, until it is shown at the end."""
CACHE: Final = "cache_dir=build/pytest-cache-e2e"
"""A cache of its own: with one for both, `--lf` would know the failures of the run that ended last."""
NOTHING_SELECTED: Final = 5
"""pytest's exit code when no test was selected."""


def plan_runs(arguments: Sequence[str]) -> list[list[str]]:
    """Return pytest's arguments for each run. The first one is shown as it goes."""
    if any(not each.startswith("-") for each in arguments):
        return [list(arguments)]
    return [[f"--ignore={ON_KIND}", *arguments], [ON_KIND, "-o", CACHE, *arguments]]


def judge(codes: Sequence[int]) -> int:
    """Return the exit code of all runs: the first that failed. One of them may have selected no test, not all."""
    failed = [code for code in codes if code not in {0, NOTHING_SELECTED}]
    return failed[0] if failed else min(codes)


def run_side_by_side(commands: Sequence[Sequence[str]], log: Path) -> int:
    """Run the commands at once, the output of all but the first into `log`, and print it at the end.

    Ctrl-C and SIGTERM end the runs, not this process: each of them takes down what it has started, and is waited for.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        runs = [
            subprocess.Popen(command, cwd=ROOT, stdout=file if beside else None, stderr=file if beside else None)
            for beside, command in enumerate(commands)
        ]
        # Set after the runs began, so that they do not inherit it. A terminal sends them Ctrl-C itself.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: _interrupt(runs))
        codes = [runs[0].wait()]
        if any(each.poll() is None for each in runs):
            print(f"Waiting for the tests on kind; {LOG} has their output so far.", flush=True)
        codes += [each.wait() for each in runs[1:]]
    print(log.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
    return judge(codes)


def _interrupt(runs: Sequence[subprocess.Popen[bytes]]) -> None:
    for each in runs:
        each.send_signal(signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Run everything, and return the exit code."""
    commands = [[sys.executable, "-m", "pytest", *run] for run in plan_runs(arguments)]
    return run_side_by_side(commands, ROOT / LOG)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
