"""Removes what a run made, however the run ends.

The reaper is a process of its own. It waits until the run's end of a pipe closes. The kernel closes that end after a
return, Ctrl-C and `kill -9` alike. Each line in the pipe names one thing to remove: `container <id>`, `process <owner>`
(with its group) or `directory <path>`.
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
        # A session of its own, so that Ctrl-C in a terminal goes to the run and not to the reaper.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local_run.reaper"], stdin=subprocess.PIPE, start_new_session=True
        )

    def will_remove(self, kind: Kind, name: str) -> None:
        """Register one thing to be removed at `close`, or when this process ends."""
        if self._process.stdin is None or self._process.poll() is not None:
            raise RuntimeError("the reaper has ended before the run")
        self._process.stdin.write(f"{kind} {name}\n".encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """Remove everything now. Return when it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=2 * REMOVAL_TIMEOUT_S)


def main() -> None:
    """Wait for the end of standard input, then remove what it named. Processes go first, because they use the rest."""
    things = [line.split(" ", 1) for line in sys.stdin.read().splitlines()]
    for owner in (Owner.parse(name) for kind, name in things if kind == "process"):
        # A process number alone is not enough, because it may belong to another process by now.
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
