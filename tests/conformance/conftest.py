"""The event loop of the image: a judge sees what runs in a pod."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.conformance import report


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each judge said."""
    for line in report.verdicts():
        terminalreporter.write_line(line)
