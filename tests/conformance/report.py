"""What the judges said, printed after the run whether they were content or not."""

_VERDICTS: list[str] = []


def note(verdict: str) -> None:
    """Have a line printed at the end of the test run."""
    _VERDICTS.append(verdict)


def verdicts() -> list[str]:
    """Return all lines."""
    return ["", *_VERDICTS] if _VERDICTS else []
