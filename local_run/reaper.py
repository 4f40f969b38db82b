"""Removes what a run made, however the run ends: a process of its own that waits for the run's end of a pipe to close.

The kernel closes that end on a return, on Ctrl-C and on `kill -9` alike, so there is one way out for all of them.
Each line names one thing, `container <id>`, `process <owner>` (and its group) or `directory <path>`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from typing import Final, Literal

from local_run.owner import Owner

REMOVAL_TIMEOUT_S: Final = 60.0

Kind = Literal["container", "process", "directory"]


class Reaper:
    """The run's end of the pipe."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C in a terminal goes to the run, not to who tidies up after it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local_run.reaper"], stdin=subprocess.PIPE, start_new_session=True
        )

    def will_remove(self, kind: Kind, name: str) -> None:
        """Hand one thing over: it will be removed when this process ends, or at `close`."""
        if self._process.stdin is None or self._process.poll() is not None:
            raise RuntimeError("the reaper has ended before the run")
        self._process.stdin.write(f"{kind} {name}\n".encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """Remove everything now, and return when it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=2 * REMOVAL_TIMEOUT_S)


def main() -> None:
    """Wait for the end of standard input, then remove what it named: processes first, for they use the rest."""
    things = [line.split(" ", 1) for line in sys.stdin.read().splitlines()]
    for owner in (Owner.parse(name) for kind, name in things if kind == "process"):
        # A number alone would not do: it may belong to somebody else by now.
        if owner is not None and not owner.is_gone():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(owner.pid, signal.SIGKILL)
    containers = [name for kind, name in things if kind == "container"]
    if containers:
        subprocess.run(
            ["docker", "rm", "--force", "--volumes", *containers],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=REMOVAL_TIMEOUT_S,
            check=False,
        )
    for name in (name for kind, name in things if kind == "directory"):
        shutil.rmtree(name, ignore_errors=True)


if __name__ == "__main__":
    main()
