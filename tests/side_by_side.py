"""Run the tests on kind beside all others: they mostly wait for pods, so two cores have time for the rest meanwhile.

`make test` runs `python -m tests.side_by_side [ARGUMENT …]`. Options go to both runs. If a path is among the arguments,
there is one run.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ON_KIND: Final = "tests/e2e"
LOG: Final = Path("build/test-e2e.log")
"""What the run beside prints, until it is shown at the end."""


def plan_runs(arguments: Sequence[str]) -> list[list[str]]:
    """Return pytest's arguments for each run. The first one is shown as it goes."""
    if any(not each.startswith("-") for each in arguments):
        return [list(arguments)]
    return [[f"--ignore={ON_KIND}", *arguments], [ON_KIND, *arguments]]


def main(arguments: Sequence[str]) -> int:
    """Run everything, and return the first exit code that is not 0."""
    pytest = [sys.executable, "-m", "pytest"]
    shown, *beside = plan_runs(arguments)
    if not beside:
        return subprocess.call([*pytest, *shown], cwd=ROOT)
    log = ROOT / LOG
    log.parent.mkdir(exist_ok=True)
    print(f"The tests on kind run beside the others; {LOG} has their output, and it follows at the end.", flush=True)
    with log.open("w", encoding="utf-8") as file:
        on_kind = subprocess.Popen([*pytest, *beside[0]], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = subprocess.call([*pytest, *shown], cwd=ROOT)
            code = on_kind.wait() or code
        finally:
            on_kind.terminate()
            on_kind.wait()
    print(log.read_text(encoding="utf-8"), end="", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
