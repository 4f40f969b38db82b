"""Runs one of the project's programs as a process on this machine, in the place of a pod."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local_run.errors import LocalRunError
from local_run.owner import Owner
from local_run.reaper import Reaper

POLL_S: Final = 0.05
PROBE_TIMEOUT_S: Final = 2.0
LOG_TAIL_BYTES: Final = 4_096
INHERITED: Final = ("PATH", "HOME", "LANG", "TMPDIR")
"""The only variables that come from this machine. All others are those of the pod."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run."""

    name: str
    """The pod's name."""
    module: str
    ready_url: str
    """Answers 200 as soon as the program serves."""
    env: Mapping[str, str] = field(repr=False)


class Process:
    """A program that can be killed and started again. The pod stays the same; the incarnation changes."""

    def __init__(self, spec: ProcessSpec, log_directory: Path, reaper: Reaper) -> None:
        self.spec = spec
        self._log = log_directory / f"{spec.name}.log"
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program. It may not be ready yet."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.spec.module],
                env={**inherited, "PYTHONUNBUFFERED": "1", **self.spec.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the run, which then ends its processes.
                start_new_session=True,
            )
        self._reaper.will_remove("process", str(Owner.of(self._process.pid)))

    def wait_ready(self, within_s: float) -> None:
        """Return when the program is ready. Raises LocalRunError with the end of its log if it is not."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if (failure := self.failure()) is not None:
                raise LocalRunError(failure)
            if self.is_ready():
                return
            time.sleep(POLL_S)
        raise LocalRunError(
            f"{self.spec.name} is not ready after {within_s:.0f} s. The end of its log:\n{self.log_tail()}"
        )

    def is_ready(self) -> bool:
        """Ask the program whether it is ready now."""
        try:
            with urllib.request.urlopen(self.spec.ready_url, timeout=PROBE_TIMEOUT_S) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def failure(self) -> str | None:
        """Return a sentence that says how the program ended, or None while it runs."""
        if self._process is None or self._process.poll() is None:
            return None
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.spec.name} {how}. The end of its log:\n{self.log_tail()}"

    def kill(self) -> None:
        """Send SIGKILL. Return when the program is gone."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill the program, unless it has already ended in some way."""
        if self._process is not None:
            self.kill()

    def terminate(self, within_s: float) -> None:
        """Send SIGTERM. Return when the program has drained and ended. Raises subprocess.TimeoutExpired."""
        self._signal(signal.SIGTERM, within_s)

    def log_tail(self) -> str:
        """Return the end of what the program wrote."""
        return self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(it wrote nothing)"

    def _signal(self, number: signal.Signals, within_s: float | None = None) -> None:
        if self._process is None:
            raise LocalRunError(f"{self.spec.name} was never started")
        self._process.send_signal(number)
        self._process.wait(within_s)
        self._process = None
