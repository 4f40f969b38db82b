"""Which tests of the simulation run: with --seed the replay alone, without it everything else."""

from pathlib import Path

import pytest

_REPLAY = "test_replay"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select by --seed."""
    replay = config.getoption("--seed") is not None
    here = Path(__file__).parent
    dropped = [item for item in items if here in item.path.parents and (item.name == _REPLAY) is not replay]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in dropped]
