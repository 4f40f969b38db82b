"""Records who owns a run, so that the next start can tell a living run from one whose owner is gone."""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_TEXT: Final = re.compile(r"(.+)/(\d+)/(\d+)")
_START_TIME_FIELD: Final = 21
"""`starttime`, counted from 0 (proc_pid_stat(5))."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process. Its number alone does not identify it, because numbers are reused."""

    space: str
    """Host and PID namespace, within which process numbers are valid."""
    pid: int
    started: int
    """Clock ticks from boot to the start of the process."""

    def __str__(self) -> str:
        return f"{self.space}/{self.pid}/{self.started}"

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return a process of this machine."""
        return cls(_space(), pid, _started(pid) or 0)

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        return cls.of(os.getpid())

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the owner from its text, or None if the text is not an owner."""
        match = _TEXT.fullmatch(text)
        return cls(match[1], int(match[2]), int(match[3])) if match else None

    def is_gone(self) -> bool:
        """Tell whether the process has certainly ended. This is never true for a process that is not visible here."""
        return self.space == _space() and _started(self.pid) != self.started


def _space() -> str:
    return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').stat().st_ino}"


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the command in parentheses. It may contain spaces and parentheses.
    return int(stat.rpartition(")")[2].split()[_START_TIME_FIELD - 2])
