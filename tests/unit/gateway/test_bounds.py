from pathlib import Path

import pytest

import pushcluster_gateway
from tests.support.bounds import check_bounds


def test_every_bound_has_the_value_that_was_agreed_on(request: pytest.FixtureRequest) -> None:
    check_bounds(pushcluster_gateway, Path(__file__).with_name("bounds.txt"), request)
