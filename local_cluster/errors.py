"""The only error that a person sees."""

from pathlib import Path


class CannotContinue(Exception):
    """Something outside this program must be fixed first. The message says what to do."""


def failed(what: str, log: Path) -> CannotContinue:
    """Return the error for a tool that failed, whose output is in `log`."""
    return CannotContinue(f"{what} failed. The end of {log} says why. Fix it and run the command again.")
