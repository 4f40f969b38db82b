import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.side_by_side import BESIDE, ROOT, Run, judge, plan_runs
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
commands = [[sys.executable, "-c", code, folder, name] for name in ("first", "second", "third")]
sys.exit(run_side_by_side(commands, [pathlib.Path(folder) / "log", pathlib.Path(folder) / "another log"]))
"""


def test_each_folder_is_in_one_run_and_new_ones_are_in_the_first() -> None:
    first, *beside = plan_runs([])
    folders = [folder for each in BESIDE.values() for folder in each]
    assert first == Run("", tuple(f"--ignore={folder}" for folder in folders))
    assert [each.arguments[: -len(("-o", "cache"))] for each in beside] == list(BESIDE.values())
    assert len(set(folders)) == len(folders)
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_no_two_runs_share_a_cache_or_a_log() -> None:
    runs = plan_runs([])
    assert len({each.arguments[-1] for each in runs}) == len({each.log for each in runs}) == len(runs)


def test_options_go_to_each_run() -> None:
    plain, runs = plan_runs([]), plan_runs(["-x", "--durations=5"])
    assert [each.arguments for each in runs] == [(*each.arguments, "-x", "--durations=5") for each in plain]


@pytest.mark.parametrize("arguments", [["tests/unit"], ["-x", "tests/e2e/test_apply.py"], ["-k", "resume"]])
def test_anything_but_options_makes_one_run_of_the_arguments_as_they_are(arguments: list[str]) -> None:
    assert plan_runs(arguments) == [Run("", tuple(arguments))]


@pytest.mark.parametrize(
    ("codes", "code"), [([0, 0], 0), ([1, 0], 1), ([0, 2], 2), ([2, 1], 2), ([0, 5], 0), ([5, 0], 0), ([5, 5], 5)]
)
def test_one_failure_fails_all_and_some_runs_may_have_nothing_to_do(codes: list[int], code: int) -> None:
    assert judge(codes) == code


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_each_run_takes_down_what_it_started(how: str, tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), TAKES_DOWN], cwd=ROOT, start_new_session=True
    )
    names = ("first", "second", "third")
    eventually_sync(lambda: all((tmp_path / f"{name} runs").exists() for name in names))
    if how == "Ctrl-C":
        os.killpg(starter.pid, signal.SIGINT)
    else:
        starter.terminate()
    assert starter.wait(timeout=60) == 3
    assert all((tmp_path / f"{name} took down").exists() for name in names)
