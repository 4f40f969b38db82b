"""The one error that a person sees."""

from pathlib import Path


class CannotContinue(Exception):
    """Something outside of this program has to be mended first; the message says what to do."""


def failed(what: str, log: Path) -> CannotContinue:
    """Return the error for a tool that failed, whose output is in `log`."""
    return CannotContinue(f"{what} failed: the reason stands at the end of {log}; mend it and run the command again.")
