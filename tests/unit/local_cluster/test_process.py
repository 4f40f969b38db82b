"""Other programs: what they print is kept, and their failure names where to look."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local_cluster.errors import CannotContinue
from local_cluster.process import answer_of, go_on, output_of, run, started, stop_all
from local_cluster.steps import Reporter, Step, run_steps


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_output_of_a_tool_goes_to_its_log_below_its_command_line(tmp_path: Path) -> None:
    log = tmp_path / "tool.log"
    run(_python("print(input())"), log=log, what="The tool", stdin=b"from stdin")
    assert log.read_text().endswith("from stdin\n")
    assert log.read_text().startswith("$ ")


def test_a_failing_tool_is_reported_in_one_sentence_with_the_path_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "tool.log"
    with pytest.raises(CannotContinue) as error:
        run(_python("raise SystemExit(3)"), log=log, what="Building it")
    assert str(error.value).startswith("Building it failed")
    assert str(log) in str(error.value)


def test_a_missing_failing_or_silent_tool_gives_no_output() -> None:
    assert output_of(["no-such-program"]) is None
    assert output_of(_python("raise SystemExit(1)")) is None
    assert output_of(_python("input()"), timeout_s=0.2) is None


def test_an_answer_that_is_needed_fails_with_the_tools_own_last_line() -> None:
    with pytest.raises(CannotContinue, match="the disk is full"):
        answer_of(_python("raise SystemExit('the disk is full')"), what="Asking")
    with pytest.raises(CannotContinue, match="no-such-program"):
        answer_of(["no-such-program"], what="Asking")


# Waits for as long as its standard input stays open, but not for ever: a test that fails shall not hang.
_WAITING = "import signal; signal.alarm(20); input()"


def test_a_failed_step_stops_the_tools_that_the_others_run() -> None:
    reader, writer = os.pipe()
    began = threading.Event()
    codes: list[int] = []

    def wait_on_a_tool() -> None:
        with os.fdopen(reader, "rb") as silence, started(subprocess.Popen(_python(_WAITING), stdin=silence)) as process:
            began.set()
            codes.append(process.wait())

    def fail() -> None:
        assert began.wait(10)
        raise CannotContinue("no disk")

    with os.fdopen(writer, "wb"), pytest.raises(CannotContinue, match="no disk"):
        run_steps([Step("slow", "Slow", 1, wait_on_a_tool), Step("failing", "Failing", 1, fail)], Reporter())
    assert codes == [-signal.SIGTERM]


def test_a_tool_that_is_started_while_the_others_are_stopped_does_not_outlive_them() -> None:
    reader, writer = os.pipe()
    stop_all()
    try:
        with (
            os.fdopen(writer, "wb"),
            os.fdopen(reader, "rb") as silence,
            started(subprocess.Popen(_python(_WAITING), stdin=silence)) as process,
        ):
            assert process.wait() == -signal.SIGTERM
    finally:
        go_on()
