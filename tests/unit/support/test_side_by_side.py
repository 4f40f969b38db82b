import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.side_by_side import CACHE, ROOT, judge, plan_runs
from tests.support.waiting import eventually_sync

TAKES_DOWN = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def end(*_):
    time.sleep(1)
    (folder / f"{sys.argv[2]} took down").touch()
    sys.exit(3)
signal.signal(signal.SIGINT, end)
(folder / f"{sys.argv[2]} runs").touch()
time.sleep(60)
"""
"""A run that needs a second to take down what it started."""
STARTER = """
import pathlib, sys
from tests.side_by_side import run_side_by_side
folder, code = sys.argv[1:]
commands = [[sys.executable, "-c", code, folder, name] for name in ("first", "second")]
sys.exit(run_side_by_side(commands, pathlib.Path(folder) / "log"))
"""


def test_the_tests_on_kind_run_beside_all_others_and_each_test_runs_once() -> None:
    assert plan_runs([]) == [["--ignore=tests/e2e"], ["tests/e2e", "-o", CACHE]]


def test_options_go_to_both_runs() -> None:
    assert plan_runs(["-x", "--durations=5"]) == [
        ["--ignore=tests/e2e", "-x", "--durations=5"],
        ["tests/e2e", "-o", CACHE, "-x", "--durations=5"],
    ]


@pytest.mark.parametrize("arguments", [["tests/unit"], ["-x", "tests/e2e/test_apply.py"], ["-k", "resume"]])
def test_anything_but_options_makes_one_run_of_the_arguments_as_they_are(arguments: list[str]) -> None:
    assert plan_runs(arguments) == [arguments]


@pytest.mark.parametrize(
    ("codes", "code"), [([0, 0], 0), ([1, 0], 1), ([0, 2], 2), ([2, 1], 2), ([0, 5], 0), ([5, 0], 0), ([5, 5], 5)]
)
def test_one_failure_fails_all_and_one_run_may_have_nothing_to_do(codes: list[int], code: int) -> None:
    assert judge(codes) == code


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_each_run_takes_down_what_it_started(how: str, tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), TAKES_DOWN], cwd=ROOT, start_new_session=True
    )
    eventually_sync(lambda: (tmp_path / "first runs").exists() and (tmp_path / "second runs").exists())
    if how == "Ctrl-C":
        os.killpg(starter.pid, signal.SIGINT)
    else:
        starter.terminate()
    assert starter.wait(timeout=60) == 3
    assert (tmp_path / "first took down").exists()
    assert (tmp_path / "second took down").exists()
