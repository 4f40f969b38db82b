"""Steps wait for each other, run side by side, and stop at the first error."""

import threading
from collections.abc import Callable

import pytest

from local_cluster.errors import CannotContinue
from local_cluster.steps import (
    Reporter,
    Step,
    describe_duration,
    describe_progress,
    describe_start,
    plan_next,
    run_steps,
)


def _step(name: str, action: Callable[[], None] = lambda: None, **options: object) -> Step:
    return Step(name, f"Title of {name}", 5, action, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (8.4, "8 s"), (89, "89 s"), (90, "1.5 min"), (240, "4 min"), (400, "6.5 min")]
)
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert describe_duration(seconds) == text


def test_a_step_is_announced_with_its_number_and_usual_time() -> None:
    assert describe_start(3, 12, Step("a", "Kubernetes", 360, lambda: None)) == "[ 3/12] Kubernetes (usually 6 min)"


def test_progress_tells_the_rest_once_there_is_enough_to_judge_by() -> None:
    step = Step("a", "Kubernetes", 360, lambda: None)
    assert describe_progress(3, 12, step, share=0.05, seconds=60) == "[ 3/12] Kubernetes: 5%"
    assert describe_progress(3, 12, step, share=0.25, seconds=60) == "[ 3/12] Kubernetes: 25%, about 3 min left"


def test_a_step_can_start_once_all_it_needs_has_ended() -> None:
    steps = [_step("a"), _step("b", needs=("a",)), _step("c", needs=("a", "b"))]
    assert [step.name for step in plan_next(steps, started=set(), ended=set())] == ["a"]
    assert [step.name for step in plan_next(steps, started={"a"}, ended={"a"})] == ["b"]
    assert plan_next(steps, started={"a", "b"}, ended={"a"}) == []


def test_steps_run_after_what_they_need_whatever_their_order_in_the_list() -> None:
    order: list[str] = []
    run_steps([_step("b", lambda: order.append("b"), needs=("a",)), _step("a", lambda: order.append("a"))], Reporter())
    assert order == ["a", "b"]


def test_steps_that_need_nothing_of_each_other_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=10)

    def meet() -> None:
        meeting.wait()

    run_steps([_step("a", meet), _step("b", meet)], Reporter())


def test_a_step_that_has_nothing_to_do_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def never() -> None:
        raise AssertionError

    run_steps([_step("a", never, is_done=lambda: True)], Reporter())
    assert capsys.readouterr().out == "[ 1/1] Title of a: up to date\n"


def test_the_first_error_ends_the_run_and_nothing_that_needs_the_failed_step_starts() -> None:
    order: list[str] = []

    def fail() -> None:
        raise CannotContinue("no disk")

    with pytest.raises(CannotContinue, match="no disk"):
        run_steps([_step("a", fail), _step("b", lambda: order.append("b"), needs=("a",))], Reporter())
    assert order == []
