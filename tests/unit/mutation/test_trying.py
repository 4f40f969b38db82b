"""A mutant is really what the tests import, and how a run ends is told apart."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mutation import children
from tests.mutation.mutants import find_mutants
from tests.mutation.targets import ROOT

SOURCE = "def full(count):\n    while count > 9:\n        count -= 1\n    return count == 9\n"
TEST = "from mutated_sample import full\n\ndef test_nine_is_full():\n    assert full(9) and full(12) and not full(8)\n"

PROGRAM = """
import json
from pathlib import Path
from tests.mutation import children, session
from tests.mutation.targets import Target
target = Target("mutated_sample", Path({module!r}), "tests")
print(json.dumps(children.run(lambda: session.judge(target, {index}, [], [{tests!r}]), {cpu_s})))
"""

Judge = Callable[..., Any]
"""Takes the text of a changed statement, or nothing for the unchanged module; and how long it may compute."""


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    module, tests = tmp_path / "mutated_sample.py", tmp_path / "test_sample.py"
    module.write_text(SOURCE)
    tests.write_text(TEST)

    def judged(becomes: str, cpu_s: float = 20.0) -> Any:
        index = next((each.index for each in find_mutants("m", SOURCE) if each.becomes == becomes), None)
        assert (index is None) == (becomes == "")
        # A process of its own: pytest's thread that watches for hangs does not survive a fork.
        code = PROGRAM.format(module=str(module), tests=str(tests), index=index, cpu_s=cpu_s)
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
        assert module.read_text() == SOURCE
        return json.loads(ended.stdout)

    return judged


def test_a_mutant_is_imported_and_killed(judge: Judge) -> None:
    answer = judge("return count != 9")
    assert (answer["code"], answer["imported"]) == (1, True)
    assert answer["failed"][0].endswith("test_nine_is_full")


def test_the_unchanged_module_passes(judge: Judge) -> None:
    assert judge("") == {"code": 0, "failed": [], "imported": True}


def test_a_mutant_that_hangs_has_no_answer(judge: Judge) -> None:
    assert judge("count += 1", 2.0) is None


def test_what_a_child_does_stays_in_the_child() -> None:
    seen: list[int] = []

    def act() -> int:
        seen.append(1)
        return len(seen)

    assert children.run(act, cpu_s=10.0) == 1
    assert seen == []


def test_a_child_may_compute_only_so_long_and_has_only_so_much_memory() -> None:
    limits = (resource.RLIMIT_CPU, resource.RLIMIT_AS)
    found = children.run(lambda: [resource.getrlimit(each) for each in limits], cpu_s=9.5)
    assert found == [[10, 10], [children.MEMORY_BYTES, children.MEMORY_BYTES]]


def test_a_child_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    assert children.run(lambda: time.sleep(600), cpu_s=0.1) is None
    assert time.monotonic() - began < 60


def test_a_child_that_fails_has_no_answer() -> None:
    assert children.run(lambda: 1 / 0, cpu_s=10.0) is None
