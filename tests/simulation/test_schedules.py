"""Whatever breaks, and in whatever order: nothing confirmed is lost, nothing is reordered, no gap is silent."""

import hashlib
import os
import subprocess
import sys
from typing import Final

import pytest

from tests.simulation.programs import installed
from tests.simulation.running import run_many
from tests.simulation.world import run_schedule

SHOWN: Final = 3


def test_no_schedule_breaks_a_promise(schedules: range) -> None:
    failed = sorted(run_many(schedules.start, len(schedules)), key=lambda result: result.seed)
    told = "\n\n".join(
        f"seed {result.seed}: {'; '.join(result.failures)}\n{result.report.describe()}\n"
        f"replay it: pytest tests/simulation --seed={result.seed}"
        for result in failed[:SHOWN]
    )
    assert not failed, f"{len(failed)} of {len(schedules)} schedules failed\n\n{told}"


def test_a_seed_replays_exactly_in_any_process() -> None:
    code = "from tests.simulation.test_schedules import digest; print(digest(200, 230))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_schedules_are_not_all_the_same() -> None:
    assert digest(1, 2) != digest(2, 3)


def test_replay(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """Selected by --seed alone."""
    lines: list[str] = []
    with installed():
        result = run_schedule(request.config.getoption("--seed"), lines.append)
    with capsys.disabled():
        print("\n" + "\n".join(lines) + "\n" + result.report.describe())
    assert result.ok, "; ".join(result.failures) or "see the report above"


def digest(first: int, end: int) -> str:
    """Return what the traces of some schedules hash to."""
    digests = hashlib.sha256()
    with installed():
        for seed in range(first, end):
            digests.update(run_schedule(seed, lambda _: None).digest.encode())
    return digests.hexdigest()
