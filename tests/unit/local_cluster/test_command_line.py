"""The commands: every failure is one sentence and an exit code."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local_cluster import __main__ as command_line
from local_cluster.errors import CannotContinue
from local_cluster.settings import Places, current_places
from local_cluster.steps import Reporter


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    places = Places(tmp_path, tmp_path / "cache")
    monkeypatch.setattr(command_line, "current_places", lambda: places)
    return places


@pytest.mark.usefixtures("places")
def test_a_failure_is_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise CannotContinue("The disk is full: make room and run the command again.")

    monkeypatch.setitem(command_line._COMMANDS, "up", (fail, ""))
    assert command_line.main(["up"]) == 1
    assert capsys.readouterr().err == "The disk is full: make room and run the command again.\n"


@pytest.mark.usefixtures("places")
def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(command_line._COMMANDS, "up", (interrupt, ""))
    assert command_line.main(["up"]) == 130
    assert "Run the command again" in capsys.readouterr().err


def test_options_belong_to_their_command() -> None:
    assert command_line.parse_arguments(["images", "--only", "data-plane"]).only == "data-plane"
    assert command_line.parse_arguments(["down", "--docker"]).docker
    with pytest.raises(SystemExit):
        command_line.parse_arguments(["up", "--docker"])
    with pytest.raises(SystemExit):
        command_line.parse_arguments([])


def test_a_second_command_waits_until_the_first_has_ended(places: Places) -> None:
    waiting, entered = threading.Event(), threading.Event()

    class Told(Reporter):
        def say(self, line: str) -> None:
            assert "Another command" in line
            waiting.set()

    def second() -> None:
        with command_line.alone(places, Told()):
            entered.set()

    thread = threading.Thread(target=second)
    with command_line.alone(places, Reporter()):
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    assert entered.wait(10)
    thread.join()


def test_nothing_but_the_standard_library_is_imported() -> None:
    code = (
        "import sys, local_cluster.__main__\n"
        "own = {name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "print(sorted(name for name in own if not name.startswith('_')))"
    )
    isolated = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=current_places().root, capture_output=True, text=True, check=True
    )
    assert isolated.stdout == "['local_cluster']\n"
