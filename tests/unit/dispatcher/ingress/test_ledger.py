import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_dispatcher.ingress.ledger import Ledger, Step

ALL = (Step.APPENDED, Step.COPIED, Step.DURABLE)


def test_a_batch_is_acknowledged_when_its_last_step_holds() -> None:
    ledger = Ledger()
    ledger.begin(1, 5)
    assert marked(ledger, 5, Step.APPENDED) is None
    assert marked(ledger, 5, Step.DURABLE) is None
    assert marked(ledger, 5, Step.COPIED) == 5
    assert ledger.take_complete() is None, "each once"
    assert ledger.unacknowledged_batches == 0


def test_a_later_batch_waits_for_an_earlier_one_and_goes_with_it() -> None:
    ledger = Ledger()
    ledger.begin(1, 2)
    ledger.begin(3, 3)
    for step in ALL:
        assert marked(ledger, 3, step) is None
    ledger.mark(2, Step.APPENDED)
    ledger.mark(2, Step.COPIED)
    assert marked(ledger, 2, Step.DURABLE) == 3


def test_batches_that_are_complete_go_together_up_to_the_first_that_is_not() -> None:
    ledger = Ledger()
    for tag in (1, 2, 3, 4):
        ledger.begin(tag, tag)
        ledger.mark(tag, Step.APPENDED)
    for tag in (1, 2, 4):
        ledger.mark(tag, Step.COPIED)
        ledger.mark(tag, Step.DURABLE)
    assert ledger.take_complete() == 2
    assert (ledger.unacknowledged_batches, ledger.done_behind) == (2, [4])


def test_what_is_acknowledged_is_not_open_any_more() -> None:
    ledger = Ledger()
    ledger.begin(1, 2)
    for step in ALL:
        ledger.mark(2, step)
    assert ledger.take_complete() == 2
    with pytest.raises(ValueError, match="no open batch"):
        ledger.mark(2, Step.DURABLE)


@pytest.mark.parametrize(("first", "last"), [(2, 3), (0, 1), (1, 0)])
def test_a_batch_that_does_not_follow_the_last_one_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="does not follow"):
        Ledger().begin(first, last)


@pytest.mark.parametrize("step", [Step.COPIED, Step.DURABLE])
def test_nothing_holds_before_the_append(step: Step) -> None:
    ledger = Ledger()
    ledger.begin(1, 1)
    with pytest.raises(ValueError, match="before the append"):
        ledger.mark(1, step)


def test_a_batch_that_is_not_open_is_refused() -> None:
    ledger = Ledger()
    ledger.begin(1, 4)
    with pytest.raises(ValueError, match="no open batch"):
        ledger.mark(3, Step.APPENDED)


def test_starting_over_takes_back_what_is_not_complete_and_nothing_else() -> None:
    ledger = Ledger()
    for tag in (1, 2, 3):
        ledger.begin(tag, tag)
        ledger.mark(tag, Step.APPENDED)
    for step in ALL:
        ledger.mark(2, step)
    ledger.mark(1, Step.DURABLE)
    assert ledger.start_over() == {1, 3}
    with pytest.raises(ValueError, match="before the append"):
        ledger.mark(1, Step.COPIED)
    assert [marked(ledger, 1, step) for step in ALL] == [None, None, 2]
    assert ledger.start_over() == {3}


def marked(ledger: Ledger, last_tag: int, step: Step) -> int | None:
    """Mark a step, and return what may be acknowledged then."""
    ledger.mark(last_tag, step)
    return ledger.take_complete()


@dataclass
class Model:
    """What is really true of each delivery, kept by tag."""

    steps: dict[int, set[Step]] = field(default_factory=dict)

    def complete_up_to(self) -> int:
        tag = 0
        while self.steps.get(tag + 1) == set(ALL):
            tag += 1
        return tag


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12), seed=st.integers())
def test_no_tag_is_acknowledged_before_its_turn_and_none_is_forgotten(sizes: list[int], seed: int) -> None:
    """Batches begin in order; their steps come in any order that has the append first."""
    rng = random.Random(seed)
    ledger, model = Ledger(), Model()
    waiting = list(sizes)
    pending: list[tuple[range, list[Step]]] = []
    acknowledged = 0
    while waiting or pending:
        if waiting and (not pending or rng.random() < 0.4):
            first = len(model.steps) + 1
            tags = range(first, first + waiting.pop(0))
            ledger.begin(tags[0], tags[-1])
            model.steps.update((tag, set()) for tag in tags)
            pending.append((tags, [Step.APPENDED, *rng.sample([Step.COPIED, Step.DURABLE], 2)]))
            continue
        tags, steps = rng.choice(pending)
        step = steps.pop(0)
        if not steps:
            pending.remove((tags, steps))
        for tag in tags:
            model.steps[tag].add(step)
        ledger.mark(tags[-1], step)
        if rng.random() < 0.5:
            continue  # and take more at once the next time
        tag_to_acknowledge = ledger.take_complete()
        if tag_to_acknowledge is not None:
            assert acknowledged < tag_to_acknowledge <= model.complete_up_to()
            acknowledged = tag_to_acknowledge
        assert acknowledged == model.complete_up_to()
    assert (ledger.take_complete() or acknowledged) == sum(sizes)
    assert ledger.unacknowledged_batches == 0
