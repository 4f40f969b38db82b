"""Which tests are tried on a mutant, and in which order."""

from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.mutation.coverage import Coverage
from tests.mutation.mutants import Mutant, find_mutants
from tests.mutation.names import Names
from tests.mutation.targets import Target

OWN = "tests/unit/gateway/test_acks.py"
OTHER = "tests/unit/gateway/test_client.py"
TARGET = Target("pushcluster_gateway.session.acks", Path("acks.py"), "tests/unit/gateway")
SOURCE = "LIMIT = 3\n\ndef f(a):\n    return a\n\n@cache\ndef g(a):\n    return a\n"


def mutant(function: str) -> Mutant:
    return next(each for each in find_mutants(TARGET.name, SOURCE) if each.function == function)


def recorded(failed: tuple[str, ...] = (), **tests: tuple[float, str, list[int]]) -> dict[str, Any]:
    """Return a record: by test its seconds, its file and the lines of the module that it runs."""
    seen = {
        f"{file}::{name}": {"seconds": seconds, "lines": {TARGET.name: lines} if lines else {}}
        for name, (seconds, file, lines) in tests.items()
    }
    return {"tests": seen, "imports": {TARGET.name: [1, 3, 7]}, "failed": list(failed)}


def coverage(record: dict[str, Any]) -> Coverage:
    made = Coverage()
    made.add(record)
    return made


def test_own_tests_come_first_then_the_quick_ones_then_the_slow_ones() -> None:
    record = recorded(
        slow=(2.0, OTHER, [4]), quick=(0.1, OTHER, [4]), late=(0.2, OWN, [4]), early=(0.1, OWN, [4]), no=(0.1, OWN, [])
    )
    assert coverage(record).plan(TARGET, mutant("f")) == [
        [f"{OWN}::early", f"{OWN}::late"],
        [f"{OTHER}::quick"],
        [f"{OTHER}::slow"],
    ]


def test_a_line_that_no_test_runs_has_no_tests() -> None:
    assert coverage(recorded(one=(0.1, OWN, [8]))).plan(TARGET, mutant("f")) == []


def test_what_runs_at_import_or_keeps_its_results_is_tried_on_all_tests_near_the_module() -> None:
    record = recorded(one=(0.1, OWN, []), two=(0.1, OTHER, [4]), three=(0.1, OTHER, []))
    near = [[f"{OWN}::one"], [f"{OTHER}::two"]]
    assert coverage(record).plan(TARGET, mutant("")) == near
    assert coverage(record).plan(TARGET, mutant("g")) == near


def test_tests_of_modules_that_import_it_are_near_it() -> None:
    made = coverage(recorded(one=(0.1, OWN, [])))
    made.importers = {TARGET.name: ["pushcluster_gateway.session.client"]}
    made.add(
        {"tests": {f"{OTHER}::four": {"seconds": 0.1, "lines": {"pushcluster_gateway.session.client": [1]}}}} | EMPTY
    )
    assert made.plan(TARGET, mutant("")) == [[f"{OWN}::one"], [f"{OTHER}::four"]]


def test_a_changed_constant_is_tried_on_the_tests_that_run_its_uses_or_name_it() -> None:
    record = recorded(uses=(0.1, OTHER, [13]), other=(0.1, OTHER, [14]), own=(0.1, OWN, []))
    record["tests"] |= {"tests/unit/gateway/test_names_it.py::t": {"seconds": 0.1, "lines": {}}}
    made = coverage(record)
    made.names = Names({TARGET.name: SOURCE + "\n\n\ndef full(a):\n    return a > LIMIT\n"})
    made.texts = {"tests/unit/gateway/test_names_it.py": "assert LIMIT == 3", OTHER: "UNLIMITED"}
    planned = made.plan(TARGET, mutant(""))
    assert planned == [[f"{OWN}::own"], [f"{OTHER}::uses", "tests/unit/gateway/test_names_it.py::t"]]


def test_a_changed_default_of_a_field_is_tried_on_the_tests_that_make_one_without_the_field() -> None:
    record = recorded(names=(0.1, OTHER, [21]), makes=(0.1, OTHER, [25]), other=(0.1, OTHER, [27]))
    made = coverage(record)
    source = "\n" * 14 + dedent("""\
        class Queue:
            name: str
            size: int = 3


        def full(queue):
            return queue.size > 3


        def make():
            return Queue("a")
        """)
    made.names = Names({TARGET.name: source})
    made.texts = {"tests/unit/gateway/test_queue.py": 'Queue("a")'}
    planned = made.plan(TARGET, replace(mutant(""), line=17))
    assert planned == [[f"{OTHER}::makes", f"{OTHER}::names"]]


EMPTY: dict[str, Any] = {"imports": {}, "failed": []}


def test_a_test_that_fails_without_a_mutant_kills_none() -> None:
    record = recorded(failed=(f"{OWN}::bad",), bad=(0.1, OWN, [4]), good=(0.1, OWN, [4]))
    assert coverage(record).plan(TARGET, mutant("f")) == [[f"{OWN}::good"]]
