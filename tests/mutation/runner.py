"""Try mutants: first see which test runs which line, then run for each mutant the tests that can see it."""

import gc
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tests.mutation.children as forked
from tests.mutation import hits, session
from tests.mutation.coverage import Coverage
from tests.mutation.mutants import Mutant
from tests.mutation.names import Names
from tests.mutation.report import Fate, Verdict
from tests.mutation.targets import PROGRAMS, ROOT, Target, find_modules, imported

RECORD: Final = ROOT / "build" / "mutation" / "coverage.json"
RECORDING_S: Final = 900.0
LIMIT_S: Final = 15.0
"""A run of tests may compute this long, and several times what it takes without a mutant: after that it hangs."""
LIMIT_FACTOR: Final = 4.0
DEEP_S: Final = 600.0
DEEP: Final = "tests/mutation/simulated.py"
HUNG: Final = "it hung or crashed"
ALL_PASSED: Final = 0
NO_TESTS: Final = 5


@dataclass(frozen=True)
class Trial:
    """What a worker needs to know besides the mutant."""

    targets: dict[str, Target]
    coverage: Coverage
    deep: bool

    def run(self, mutant: Mutant) -> Verdict:
        """Return what becomes of a mutant."""
        target = self.targets[mutant.module]
        seen = False
        for tests in self.coverage.plan(target, mutant):
            limit_s = LIMIT_S + LIMIT_FACTOR * sum(self.coverage.seconds[each] for each in tests)
            answer = _ask(target, mutant.index, tests, (), limit_s)
            if answer.killer:
                return Verdict(mutant, Fate.KILLED, answer.killer)
            seen |= answer.imported
        if self.deep and (answer := _ask(target, mutant.index, (), (DEEP,), DEEP_S)).killer:
            return Verdict(mutant, Fate.KILLED, answer.killer)
        return Verdict(mutant, Fate.SURVIVED if seen else Fate.UNSEEN)


@dataclass(frozen=True)
class _Answer:
    killer: str
    """The test that failed, or how else the run ended; nothing if all passed."""
    imported: bool
    """Whether the tests imported the changed module, and not another one."""


def _ask(target: Target, index: int | None, tests: Sequence[str], arguments: Sequence[str], cpu_s: float) -> _Answer:
    answer = forked.run(lambda: session.judge(target, index, tests, arguments), cpu_s)
    if answer is None:
        return _Answer(HUNG, imported=True)
    code, failed, seen = answer["code"], answer["failed"], answer["imported"]
    if code in {ALL_PASSED, NO_TESTS} or not seen:
        return _Answer("", imported=seen)
    return _Answer(str(failed[0]) if failed else f"pytest ended with {code}", imported=True)


def record(jobs: int, say: Callable[[str], None]) -> Coverage:
    """Return which test runs which line: from the last time, if neither the code nor a test has changed since."""
    digest, modules = _digest(), find_modules()
    if RECORD.is_file() and (kept := json.loads(RECORD.read_bytes()))["digest"] == digest:
        folders = kept["folders"]
    else:
        say("recording which unit test runs which line")
        with _pool(jobs) as pool:
            folders = pool.starmap(_record_folder, [(modules, each) for each in _slowest_first()], chunksize=1)
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps({"digest": digest, "folders": folders}))
    coverage = Coverage(
        importers=_find_importers(modules),
        names=Names({each.name: each.source for each in modules}),
        texts=_read_tests(),
    )
    for each in folders:
        coverage.add(each)
        for test in each["failed"]:
            say(f"left out, it fails without any mutant: {test}")
    return coverage


def _read_tests() -> dict[str, str]:
    files = [path for folder in PROGRAMS.values() for path in (ROOT / folder).rglob("test_*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def _slowest_first() -> list[str]:
    return sorted(PROGRAMS.values(), key=lambda folder: -len(list((ROOT / folder).rglob("test_*.py"))))


def _record_folder(targets: Sequence[Target], folder: str) -> dict[str, Any]:
    recorded = forked.run(lambda: session.record(targets, folder), RECORDING_S)
    if not recorded or not recorded["tests"]:
        raise RuntimeError(f"the tests in {folder} did not run to their end")
    return dict(recorded)


def try_all(trial: Trial, mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    """Yield each mutant's verdict, as they come."""
    global _trial  # noqa: PLW0603 - what forked workers inherit needs no copy
    _trial = trial
    with _pool(jobs) as pool:
        yield from pool.imap_unordered(_try, mutants, chunksize=1)


def check_the_unchanged(trial: Trial, mutants: Sequence[Mutant]) -> list[str]:
    """Return what fails in a child although nothing was changed: with it every mutant would seem dead."""
    failed = []
    for package in PROGRAMS:
        for mutant in mutants:
            target = trial.targets[mutant.module]
            stages = trial.coverage.plan(target, mutant)
            if stages and target.tests == PROGRAMS[package]:
                answer = _ask(target, None, stages[0], (), RECORDING_S)
                failed.extend([f"{target.name}: {answer.killer}"] if answer.killer else [])
                failed.extend([] if answer.imported else [f"{target.name}: its tests do not import it"])
                break
    return failed


_trial: Trial | None = None


def _try(mutant: Mutant) -> Verdict:
    assert _trial is not None
    return _trial.run(mutant)


def _pool(jobs: int) -> Any:
    forked.import_libraries()
    gc.collect()
    gc.freeze()
    return multiprocessing.get_context("fork").Pool(jobs)


def _find_importers(targets: Sequence[Target]) -> dict[str, list[str]]:
    names = {each.name: imported(each.source) for each in targets}
    return {name: [other for other, imports in names.items() if name in imports] for name in names}


def _digest() -> str:
    """Return a digest of everything that decides which test runs which line."""
    digest = hashlib.sha256()
    folders = [*PROGRAMS, *PROGRAMS.values(), "tests/support"]
    recorder = [Path(session.__file__), Path(hits.__file__)]
    for path in sorted([*recorder, *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
