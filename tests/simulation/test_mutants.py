"""The simulation seen red: with the product broken in one place, it reports a broken promise."""

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.running import find, worker_processes
from tests.simulation.world import Result


@pytest.fixture(scope="module")
def searches(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Result | None]]]:
    """All searches, begun at once and spread over the processors."""
    first, count = request.config.getoption("--first-seed"), request.config.getoption("--schedules")
    with worker_processes() as pool:
        yield {mutant: pool.submit(find, mutant, first, count) for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_simulation_finds_that(mutant: str, searches: dict[str, Future[Result | None]]) -> None:
    found = searches[mutant].result()
    assert found is not None, f"{mutant}: no schedule shows it"
