"""The world that most tests of the operator begin with."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.operator.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.spec({})
    yield world
    await world.sweeper.close()
