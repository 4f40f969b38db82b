"""What `--deep` asks of a mutant that unit tests let live. Not collected by name: it runs in one process."""

from typing import Final

from tests.simulation.running import run_chunk

SCHEDULES: Final = 300


def test_no_schedule_breaks_a_promise() -> None:
    assert run_chunk(1, SCHEDULES) == []
