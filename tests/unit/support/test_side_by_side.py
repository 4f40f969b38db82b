import pytest

from tests.side_by_side import plan_runs


def test_the_tests_on_kind_run_beside_all_others_and_each_test_runs_once() -> None:
    assert plan_runs([]) == [["--ignore=tests/e2e"], ["tests/e2e"]]


def test_options_go_to_both_runs() -> None:
    assert plan_runs(["-x", "--durations=5"]) == [
        ["--ignore=tests/e2e", "-x", "--durations=5"],
        ["tests/e2e", "-x", "--durations=5"],
    ]


@pytest.mark.parametrize("arguments", [["tests/unit"], ["-x", "tests/e2e/test_apply.py"], ["tests/unit", "tests/e2e"]])
def test_paths_are_one_run_as_they_are(arguments: list[str]) -> None:
    assert plan_runs(arguments) == [arguments]
