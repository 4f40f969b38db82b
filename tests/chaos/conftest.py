"""Chooses the fault runs, and prints the checker's reports after them."""

from itertools import cycle, product
from typing import Final

import pytest

from pushcluster_contract.routing import RoutingMode
from tests.chaos import report

FAULTS: Final = ("kill_gateway", "kill_dispatcher", "kill_redis", "restart_rabbitmq", "change_mode")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every fault, and every mode, once; with `--all-faults` every fault in every mode."""
    if "fault" not in metafunc.fixturenames or "mode" not in metafunc.fixturenames:
        return
    every = metafunc.config.getoption("--all-faults")
    runs = list(product(FAULTS, RoutingMode)) if every else list(zip(FAULTS, cycle(RoutingMode), strict=False))
    metafunc.parametrize(("fault", "mode"), runs)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What a run draws from; the faults themselves meet the programs at another moment each time."""
    given: int = request.config.getoption("--chaos-seed")
    request.node.add_report_section("setup", "seed", f"run it again with --chaos-seed={given}")
    return given


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line a run."""
    for line in report.table():
        terminalreporter.write_line(line)
