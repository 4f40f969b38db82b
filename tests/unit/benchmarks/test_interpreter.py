import sys

import pytest

from benchmarks.interpreter import BETTER, choose, measure


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"own": 1.0}, "own"),
        ({"own": 1.0, "other": BETTER}, "other"),
        ({"own": 1.0, "other": BETTER + 0.01}, "own"),
        ({"own": 1.0, "other": 0.8, "third": 0.7}, "third"),
        ({"other": 2.0}, "other"),
        ({}, "own"),
    ],
)
def test_another_python_is_taken_if_it_is_clearly_quicker(seconds: dict[str, float], chosen: str) -> None:
    assert choose("own", seconds) == chosen


def test_a_python_that_runs_the_loop_is_measured() -> None:
    assert (measure(sys.executable) or 0) > 0


@pytest.mark.parametrize("path", ["/bin/false", "/bin/echo", "/nowhere/python3"])
def test_what_is_no_python_is_not_taken(path: str) -> None:
    assert measure(path) is None
