"""Prints the checker's reports after the run."""

import pytest

from tests.chaos import report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line a run."""
    for line in report.table():
        terminalreporter.write_line(line)
