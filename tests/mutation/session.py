"""One run of pytest inside a child, with another program in the place of a module."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from tests.mutation import hits
from tests.mutation.importing import Build, Substitutes
from tests.mutation.mutants import build_mutant
from tests.mutation.targets import ROOT, Target


class _Plugin:
    """Runs the wanted tests in the wanted order, and remembers which failed."""

    def __init__(self, wanted: Sequence[str] | None) -> None:
        self._rank = None if wanted is None else {test: rank for rank, test in enumerate(wanted)}
        self.failed: list[str] = []

    def pytest_configure(self) -> None:
        """Let tests with generated input try the same each time; a smaller example of a failure is of no use here."""
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", deadline=None, database=None, derandomize=True, phases=phases)
        settings.load_profile("mutation")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._rank is not None:
            items[:] = choose(items, self._rank)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)


def choose(items: Sequence[pytest.Item], rank: Mapping[str, int]) -> list[pytest.Item]:
    """Return the wanted tests by rank. One whose name the mutant has changed is run with all that have its function."""
    last = len(rank)
    gone = {_function(each) for each in rank.keys() - {each.nodeid for each in items}}
    wanted = [each for each in items if each.nodeid in rank or _function(each.nodeid) in gone]
    return sorted(wanted, key=lambda item: rank.get(item.nodeid, last))


def _function(test: str) -> str:
    return test.partition("[")[0]


class _Recorder(_Plugin):
    """Notes for each test how long it takes and which lines it runs."""

    def __init__(self, notes: Mapping[str, bytearray]) -> None:
        super().__init__(None)
        self.tests: dict[str, dict[str, Any]] = {}
        self.imports: dict[str, list[int]] = {}
        self._notes = notes

    def pytest_collection_finish(self) -> None:
        self.imports = self._take()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.tests[item.nodeid] = {"seconds": 0.0, "lines": {}}
        result = yield
        self.tests[item.nodeid]["lines"] = self._take()
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        super().pytest_runtest_logreport(report)
        self.tests[report.nodeid]["seconds"] += report.duration

    def _take(self) -> dict[str, list[int]]:
        return {module: lines for module, notes in self._notes.items() if (lines := hits.take(notes))}


def record(targets: Iterable[Target], folder: str) -> dict[str, Any]:
    """Run all tests of a folder; return what each of them runs, and which fail."""
    sources = {each.name: each.source for each in targets}
    notes = {name: bytearray(source.count("\n") + 2) for name, source in sources.items()}
    variables = {name: {hits.NAME: each} for name, each in notes.items()}

    def build(name: str) -> Build:
        return lambda: hits.build_noting(sources[name])

    Substitutes({each.name: (each.path, build(each.name)) for each in targets}, variables).install()
    recorder = _Recorder(notes)
    _run_pytest([folder], recorder)
    return {"tests": recorder.tests, "imports": recorder.imports, "failed": recorder.failed}


def judge(target: Target, index: int | None, tests: Sequence[str], arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Run tests until one fails; without any, those of the files in `arguments`. Return which failed."""
    source = target.source
    substitutes = Substitutes({target.name: (target.path, lambda: build_mutant(source, index))}, {})
    substitutes.install()
    plugin = _Plugin(tests or None)
    files = list(dict.fromkeys(each.partition("::")[0] for each in tests))
    code = _run_pytest([*files, *arguments, "--exitfirst"], plugin)
    return {"code": code, "failed": plugin.failed, "imported": target.name in substitutes.loaded}


def _run_pytest(arguments: Sequence[str], plugin: _Plugin) -> int:
    os.chdir(ROOT)
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    try:
        options = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        return int(pytest.main([*arguments, *options, f"--basetemp={folder / 'tests'}"], plugins=[plugin]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
