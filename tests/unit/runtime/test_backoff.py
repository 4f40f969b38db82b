import pytest

from pushcluster_runtime.backoff import Backoff


def test_the_ceiling_doubles_up_to_its_maximum() -> None:
    backoff = Backoff(lambda: 1.0, first_s=0.1, max_s=1.0)
    assert [round(backoff.next_delay_s(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_no_delay_is_shorter_than_half_of_the_ceiling() -> None:
    backoff = Backoff(lambda: 0.0, first_s=0.1, max_s=1.0)
    assert [round(backoff.next_delay_s(), 3) for _ in range(3)] == [0.05, 0.1, 0.2]


def test_a_reset_starts_over() -> None:
    backoff = Backoff(lambda: 1.0, first_s=0.1, max_s=1.0)
    backoff.next_delay_s()
    backoff.next_delay_s()
    backoff.reset()
    assert backoff.next_delay_s() == 0.1


def test_thousands_of_failures_do_not_overflow() -> None:
    backoff = Backoff(lambda: 1.0)
    assert {backoff.next_delay_s() for _ in range(5_000)} == {0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0}


def test_the_delay_is_drawn_evenly_from_the_upper_half() -> None:
    drawn = iter((0.0, 0.5, 1.0))
    delays = [Backoff(lambda: next(drawn)).next_delay_s() for _ in range(3)]
    assert delays == pytest.approx([0.05, 0.075, 0.1])
