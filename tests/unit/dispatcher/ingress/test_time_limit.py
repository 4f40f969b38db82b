from hypothesis import given
from hypothesis import strategies as st

from pushcluster_dispatcher.ingress.time_limit import GIVE_BACK_PART, LATEST_PART, OLD_PART, HeldTimes
from pushcluster_dispatcher.settings import CONSUMER_TIMEOUT_S


def test_half_of_what_the_broker_allows_is_left_with_nothing_held() -> None:
    held = HeldTimes(CONSUMER_TIMEOUT_S)
    assert (held.held, held.oldest_s(7.0), held.left_s(7.0)) == (0, 0.0, 900.0)
    assert held.latest_left_s(7.0) == 1_350.0


def test_the_oldest_message_counts_and_not_the_newest() -> None:
    held = HeldTimes(100.0)
    held.take(1, 10.0)
    held.take(2, 50.0)
    assert held.oldest_s(50.0) == 40.0
    assert held.left_s(59.0) > 0
    assert held.left_s(60.0) == 0
    assert held.latest_left_s(85.0) == 0
    assert held.held == 2


def test_what_is_held_is_old_at_a_quarter_of_the_limit_and_not_before() -> None:
    held = HeldTimes(100.0)
    assert not held.is_old(1_000.0), "nothing is held"
    held.take(1, 10.0)
    held.take(2, 50.0)
    assert [held.is_old(now) for now in (34.9, 35.0)] == [False, True]
    held.release(1)
    assert [held.is_old(now) for now in (74.9, 75.0)] == [False, True]
    assert OLD_PART < GIVE_BACK_PART


def test_the_next_oldest_counts_once_the_oldest_is_acknowledged() -> None:
    held = HeldTimes(100.0)
    held.take(1, 10.0)
    held.take(2, 50.0)
    held.release(1)
    assert held.oldest_s(60.0) == 10.0
    held.release(2)
    assert (held.oldest_s(60.0), held.held) == (0.0, 0)


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.integers(0, 3)), min_size=1
    )  # seconds until the next delivery; how many are acknowledged then
)
def test_no_message_is_taken_for_younger_than_it_is(steps: list[tuple[float, int]]) -> None:
    held, since, now, acknowledged = HeldTimes(10.0), dict[int, float](), 0.0, 0
    for tag, (passing_s, acks) in enumerate(steps, 1):
        now += passing_s
        held.take(tag, now)
        since[tag] = now
        if acks:
            acknowledged = min(tag, acknowledged + acks)
            held.release(acknowledged)
        open_tags = range(acknowledged + 1, tag + 1)
        assert held.held == len(open_tags)
        if open_tags:
            exact = now - since[open_tags[0]]
            assert exact - 1e-9 <= held.oldest_s(now) <= exact + 10.0 * GIVE_BACK_PART / 100


def test_a_burst_costs_no_memory_for_each_message() -> None:
    held = HeldTimes(100.0)
    for tag in range(1, 501):
        held.take(tag, 10.0 + tag / 10_000)
    assert len(held._grains) == 1
    held.release(499)
    assert held.oldest_s(20.0) > 9.9
    assert held.held == 1


def test_a_delivery_that_comes_a_whole_grain_later_counts_by_itself() -> None:
    held = HeldTimes(100.0)
    held.take(1, 10.0)
    held.take(2, 10.5)
    held.release(1)
    assert held.oldest_s(11.0) == 0.5


def test_there_is_time_between_giving_back_and_the_limit() -> None:
    """For an append that Redis has not answered: its connection is given up long before."""
    assert 0 < GIVE_BACK_PART < LATEST_PART < 1
    assert (LATEST_PART - GIVE_BACK_PART) * CONSUMER_TIMEOUT_S > 60
