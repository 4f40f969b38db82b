"""Processes: how they end is said in words, and none outlives the run."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_run.errors import LocalRunError
from local_run.owner import Owner
from local_run.processes import Process, ProcessSpec
from local_run.reaper import Reaper


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    made = Reaper()
    yield made
    made.close()


def process(module: str, directory: Path, reaper: Reaper) -> Process:
    return Process(ProcessSpec("demo-gateway-0", module, "http://127.0.0.1:1/readyz", {}), directory, reaper)


def test_a_program_that_ends_while_it_starts_is_named_with_its_exit_code_and_last_words(
    tmp_path: Path, reaper: Reaper
) -> None:
    failing = process("json.tool", tmp_path, reaper)
    failing.start()
    with pytest.raises(LocalRunError, match=r"(?s)demo-gateway-0 ended with exit code 1.*Expecting value"):
        failing.wait_ready(within_s=20)


def test_the_run_takes_its_processes_and_directories_with_it(tmp_path: Path) -> None:
    reaper = Reaper()
    directory = tmp_path / "logs"
    directory.mkdir()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as sleeper:
        reaper.will_remove("process", str(Owner.of(sleeper.pid)))
        reaper.will_remove("directory", str(directory))
        reaper.close()
        assert sleeper.wait(timeout=5) == -9
    assert not directory.exists()


def test_a_process_that_took_over_the_number_is_left_alone(tmp_path: Path) -> None:
    reaper = Reaper()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        owner = Owner.of(other.pid)
        reaper.will_remove("process", str(Owner(owner.space, owner.pid, owner.started - 1)))
        reaper.close()
        assert other.poll() is None
        other.kill()
