"""Options of the whole test run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pushcluster")
    group.addoption("--fuzz-seconds", type=float, default=60.0, help="How long all fuzz tests together may run.")
    group.addoption(
        "--fuzz-seed", type=int, default=None, help="Run this one case of a fuzz test, as its failure said."
    )
