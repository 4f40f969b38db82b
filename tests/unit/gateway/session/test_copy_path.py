"""The order in which one subscription changes between its gateway's queue and its own."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pushcluster_gateway.session.copy_path import CopyPath, Step


class Broker:
    """Takes the steps, and checks that each makes sense at its time."""

    def __init__(self) -> None:
        self.path = CopyPath()
        self.queues: set[str] = set()
        self.opened = 0
        self.told_own = False
        """What dispatchers were last told."""
        self.lost_copies = False
        """Whether a queue went, and the log was not read since."""
        self.steps: list[Step] = []

    def take(self, step: Step) -> None:
        self.steps.append(step)
        path = self.path
        match step:
            case Step.OPEN:
                assert not self.queues, "one queue at a time"
                self.opened += 1
                self.queues.add(f"q{self.opened}")
                path.opened(f"q{self.opened}")
            case Step.USE:
                assert path.queue in self.queues, "dispatchers are sent only to a queue that is consumed"
                path.using()
                self.told_own = True
            case Step.LEAVE:
                path.leaving()
                self.told_own = False
            case Step.DELETE:
                assert not self.told_own, "dispatchers are sent away before the queue goes"
                self.queues.remove(path.take_queue())
                self.lost_copies = True
            case Step.REREAD:
                path.rereading()
                self.told_own = path.used  # the same write of the entry says where copies go
                self.lost_copies = False

    def take_all(self) -> list[Step]:
        self.steps = []
        while (step := self.path.next_step()) is not None:
            self.take(step)
            assert len(self.steps) < 10, "no end"
        return self.steps

    def delete_by_hand(self) -> None:
        if self.queues:
            self.queues.clear()
            self.lost_copies = True
            self.path.queue_deleted()

    def lose_connection(self) -> None:
        self.queues.clear()
        self.path.connection_lost()
        self.told_own = self.lost_copies = False  # the resync after it rewrites and rereads everything


def test_a_subscription_begins_with_nothing_to_do() -> None:
    assert CopyPath().next_step() is None


def test_it_goes_to_a_queue_of_its_own_and_back() -> None:
    broker = Broker()
    broker.path.use_own_queue()
    assert broker.take_all() == [Step.OPEN, Step.USE]
    assert (broker.path.queue, broker.path.used) == ("q1", True)
    broker.path.use_gateway_queue()
    assert broker.take_all() == [Step.LEAVE, Step.DELETE, Step.REREAD]
    assert (broker.path.queue, broker.path.used) == ("", False)


def test_a_queue_that_nobody_wants_any_more_when_it_is_open_is_deleted() -> None:
    broker = Broker()
    broker.path.use_own_queue()
    broker.take(Step.OPEN)
    broker.path.use_gateway_queue()
    assert broker.take_all() == [Step.DELETE, Step.REREAD]


def test_a_wish_that_is_taken_back_in_time_costs_no_queue() -> None:
    broker = Broker()
    broker.path.use_own_queue()
    broker.take_all()
    broker.path.use_gateway_queue()
    broker.take(Step.LEAVE)
    broker.path.use_own_queue()
    assert broker.take_all() == [Step.USE]


def test_a_queue_that_somebody_deleted_is_opened_again_after_the_log_was_read() -> None:
    broker = Broker()
    broker.path.use_own_queue()
    broker.take_all()
    broker.delete_by_hand()
    assert not broker.path.used
    assert broker.take_all() == [Step.REREAD, Step.OPEN, Step.USE]


def test_after_a_lost_connection_only_who_wants_a_queue_has_steps_left() -> None:
    broker = Broker()
    assert broker.path.connection_lost() is False
    broker.path.use_own_queue()
    broker.take_all()
    assert broker.path.connection_lost() is True
    broker.queues.clear()
    assert broker.take_all() == [Step.OPEN, Step.USE]


def test_a_queue_is_given_to_one_who_deletes_it() -> None:
    path = CopyPath()
    path.opened("q")
    assert (path.take_queue(), path.take_queue()) == ("q", "")


INPUTS: dict[str, Callable[[Broker], object]] = {
    "own": lambda broker: broker.path.use_own_queue(),
    "gateway's": lambda broker: broker.path.use_gateway_queue(),
    "deleted": Broker.delete_by_hand,
    "lost": Broker.lose_connection,
}


@given(st.lists(st.sampled_from(["step", *INPUTS]), max_size=30), st.booleans())
def test_whatever_happens_between_the_steps_it_ends_where_it_was_wanted(inputs: list[str], wants_own: bool) -> None:
    broker = Broker()
    for each in inputs:
        if each != "step":
            INPUTS[each](broker)
        elif (step := broker.path.next_step()) is not None:
            broker.take(step)
    INPUTS["own" if wants_own else "gateway's"](broker)
    broker.take_all()
    assert (bool(broker.queues), broker.told_own, broker.lost_copies) == (wants_own, wants_own, False)
    assert broker.path.queue == "".join(broker.queues)
