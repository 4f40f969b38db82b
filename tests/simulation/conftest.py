"""Which tests of the simulation run: with --seed the replay alone, without it everything else. And which schedules."""

from pathlib import Path
from typing import Final

import pytest

SCHEDULES_A_TEST: Final = 2_000
"""So that no test comes near the time limit of the suite, however many schedules there are and whatever runs beside."""
_REPLAY = "test_replay"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Part the schedules."""
    if "schedules" in metafunc.fixturenames:
        metafunc.parametrize("schedules", _part(metafunc.config), ids=lambda part: f"{part.start}-{part.stop - 1}")


def _part(config: pytest.Config) -> list[range]:
    first = config.getoption("--first-seed")
    end = first + config.getoption("--schedules")
    return [range(start, min(start + SCHEDULES_A_TEST, end)) for start in range(first, end, SCHEDULES_A_TEST)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select by --seed."""
    replay = config.getoption("--seed") is not None
    here = Path(__file__).parent
    dropped = [item for item in items if here in item.path.parents and (item.name == _REPLAY) is not replay]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in dropped]
