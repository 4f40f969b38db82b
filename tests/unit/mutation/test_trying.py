"""A mutant is really what the tests import, and how a run ends is told apart."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mutation import children, session
from tests.mutation.mutants import find_mutants
from tests.mutation.targets import Target

SOURCE = "def full(count):\n    while count > 9:\n        count -= 1\n    return count == 9\n"
TEST = "from mutated_sample import full\n\ndef test_nine_is_full():\n    assert full(9) and full(12) and not full(8)\n"

Judge = Callable[..., Any]
"""Takes the text of a changed statement, or nothing for the unchanged module; and how long it may take."""


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    module, tests = tmp_path / "mutated_sample.py", tmp_path / "test_sample.py"
    module.write_text(SOURCE)
    tests.write_text(TEST)
    target = Target("mutated_sample", module, "tests")

    def judged(becomes: str, within_s: float = 60.0) -> Any:
        index = next((each.index for each in find_mutants("m", SOURCE) if each.becomes == becomes), None)
        assert (index is None) == (becomes == "")
        answer = children.run(lambda: session.judge(target, index, [], [str(tests)]), within_s)
        assert module.read_text() == SOURCE
        return answer

    return judged


def test_a_mutant_is_imported_and_killed(judge: Judge) -> None:
    answer = judge("return count != 9")
    assert (answer["code"], answer["imported"]) == (1, True)
    assert answer["failed"][0].endswith("test_nine_is_full")


def test_the_unchanged_module_passes(judge: Judge) -> None:
    assert judge("") == {"code": 0, "failed": [], "imported": True}


def test_a_mutant_that_hangs_has_no_answer(judge: Judge) -> None:
    assert judge("count += 1", 3.0) is None


def test_what_a_child_does_stays_in_the_child() -> None:
    seen: list[int] = []

    def act() -> int:
        seen.append(1)
        return len(seen)

    assert children.run(act, within_s=60.0) == 1
    assert seen == []


def test_a_child_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    assert children.run(lambda: time.sleep(60), within_s=0.1) is None
    assert time.monotonic() - began < 30


def test_a_child_that_fails_has_no_answer() -> None:
    assert children.run(lambda: 1 / 0, within_s=60.0) is None
