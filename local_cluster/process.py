"""Runs other programs with their output in a log, and ends them when this program stops."""

import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from local_cluster.errors import CannotContinue, failed

if TYPE_CHECKING:
    from collections.abc import Iterator

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
_stopping = threading.Event()


@contextmanager
def started(process: subprocess.Popen[bytes]) -> "Iterator[subprocess.Popen[bytes]]":
    """Register the process for `stop_all` until the end of the block."""
    with _lock:
        _running.add(process)
        if _stopping.is_set():
            process.terminate()
    try:
        yield process
    finally:
        with _lock:
            _running.discard(process)


def stop_all() -> None:
    """Terminate all running processes because a step failed. Until `go_on`, terminate new ones too."""
    with _lock:
        _stopping.set()
        for process in _running:
            with suppress(ProcessLookupError):
                process.terminate()


def go_on() -> None:
    """Let processes run again, after all steps of a failed run have ended."""
    _stopping.clear()


def run(
    arguments: Sequence[str | Path],
    *,
    log: Path,
    what: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | bytes | None = None,
) -> None:
    """Run a tool, and append its output to `log`.

    Raises CannotContinue, which names `what` and the log, if the tool fails.
    """
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, arguments))}\n".encode())
        output.flush()
        data, source = (stdin, subprocess.PIPE) if isinstance(stdin, bytes) else (None, stdin or subprocess.DEVNULL)
        process = subprocess.Popen(arguments, cwd=cwd, env=env, stdin=source, stdout=output, stderr=output)
        with started(process):
            process.communicate(data)
    if process.returncode != 0:
        raise failed(what, log)


def output_of(arguments: Sequence[str | Path], *, timeout_s: float = 60, stdin: str | None = None) -> str | None:
    """Return what a tool prints, or None if it is missing, fails or takes too long."""
    try:
        done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def answer_of(arguments: Sequence[str | Path], *, what: str, timeout_s: float = 60, stdin: str | None = None) -> str:
    """Return what a tool prints.

    Raises CannotContinue with the tool's own last line if it fails.
    """
    try:
        done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise CannotContinue(
            f"{what} needs the program {arguments[0]}. Install it and run the command again."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CannotContinue(f"{what} got no answer within {timeout_s:.0f} s. Run the command again.") from error
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise CannotContinue(f"{what} failed ({reason}). Fix that and run the command again.")
    return done.stdout
