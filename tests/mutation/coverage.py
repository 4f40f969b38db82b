"""Which tests run which line, how long they take, and in which order to try them on a mutant."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.mutation.mutants import Mutant
from tests.mutation.names import Names
from tests.mutation.targets import Target

SLOW_S: Final = 0.3
"""Tests that take longer come last."""


@dataclass
class Coverage:
    """What a run of all unit tests showed."""

    seconds: dict[str, float] = field(default_factory=dict)
    by_line: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    by_module: dict[str, set[str]] = field(default_factory=dict)
    at_import: set[tuple[str, int]] = field(default_factory=set)
    importers: Mapping[str, Iterable[str]] = field(default_factory=dict)
    """By module, those that import it."""
    names: Names = field(default_factory=lambda: Names({}))
    texts: Mapping[str, str] = field(default_factory=dict)
    """By test file, its text."""

    def add(self, recorded: Mapping[str, Any]) -> None:
        """Take what one folder's run recorded; a test that fails without any mutant says nothing, and stays out."""
        for test, seen in recorded["tests"].items():
            if test in recorded["failed"]:
                continue
            self.seconds[test] = seen["seconds"]
            for module, lines in seen["lines"].items():
                self.by_module.setdefault(module, set()).add(test)
                for line in lines:
                    self.by_line.setdefault((module, line), set()).add(test)
        self.at_import.update((module, line) for module, lines in recorded["imports"].items() for line in lines)

    def plan(self, target: Target, mutant: Mutant) -> list[list[str]]:
        """Return the tests that can see a mutant, in stages: the module's own, the quick ones, the slow ones."""
        tests = self._that_see(target, mutant)
        own = {each for each in tests if target.is_own(each)} or self._of_the_nearest_file(tests)
        others = tests - own
        quick = {each for each in others if self.seconds[each] < SLOW_S}
        stages = (own, quick, others - quick)
        return [sorted(each, key=lambda test: (self.seconds[test], test)) for each in stages if each]

    def _that_see(self, target: Target, mutant: Mutant) -> set[str]:
        """What runs at import, or keeps its results, shows in tests that do not run it: those near it count."""
        place = (target.name, mutant.line)
        if mutant.function and not mutant.cached and place not in self.at_import:
            return self.by_line.get(place, set())
        bounds = f"{target.tests}/test_bounds.py"
        near = {test for test in self.seconds if target.is_own(test) or test.partition("::")[0] == bounds}
        name = mutant.function.rpartition(".")[2] if mutant.cached else self.names.defined.get(place, "")
        used = {each for each in (name, self.names.classes.get(place, "")) if self.names.find_uses(each)}
        if used:
            return near.union(*map(self._that_use, used))
        for module in (target.name, *self.importers.get(target.name, ())):
            near |= self.by_module.get(module, set())
        return near

    def _that_use(self, name: str) -> set[str]:
        """Return the tests that run a statement with this name, or stand in a file that has it."""
        tests: set[str] = set()
        for place in self.names.find_uses(name):
            tests |= self.by_line.get(place, set())
        word = re.compile(rf"\b{re.escape(name)}\b")
        files = {file for file, text in self.texts.items() if word.search(text)}
        return tests | {test for test in self.seconds if test.partition("::")[0] in files}

    def _of_the_nearest_file(self, tests: Iterable[str]) -> set[str]:
        files = Counter(test.partition("::")[0] for test in tests)
        if not files:
            return set()
        nearest = max(files, key=lambda file: (files[file], file))
        return {test for test in tests if test.partition("::")[0] == nearest}
