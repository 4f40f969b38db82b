"""Prints the demo: numbered steps, commands and facts."""

import sys
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Narrator:
    """Prints the demo's steps. `seconds` is the time since the last step began."""

    steps: int
    _step: int = 0
    _began: float = field(default_factory=time.monotonic)

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._step += 1
        self._began = time.monotonic()
        self._print(f"\n[{self._step}/{self.steps}] {title}")

    def command(self, line: str) -> None:
        """Print a command that the user could type."""
        self._print(f"      $ {line}")

    def say(self, text: str) -> None:
        """Print facts, one on each line."""
        for line in text.rstrip().splitlines():
            self._print(f"      {line}")

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._began

    @staticmethod
    def _print(line: str) -> None:
        print(line, flush=True, file=sys.stdout)
