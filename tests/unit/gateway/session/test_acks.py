import pytest

from pushcluster_contract.ids import StreamId
from pushcluster_gateway.session.acks import AckWindow


def ids(*seqs: int) -> list[StreamId]:
    return [StreamId(100 + seq, seq) for seq in seqs]


def window(*seqs: int, max_entries: int = 10) -> AckWindow:
    made = AckWindow(max_entries)
    for each in ids(*seqs):
        made.add(each)
    return made


def one(seq: int) -> StreamId:
    return ids(seq)[0]


def test_a_cumulative_ack_covers_everything_before_it() -> None:
    acks = window(1, 2, 3, 4)
    assert acks.covered(one(3), cumulative=True) == ids(1, 2, 3)
    acks.settle(ids(1, 2, 3))
    assert acks.cursor == one(3)
    assert acks.covered(one(3), cumulative=True) == []


def test_what_is_not_settled_takes_its_room() -> None:
    acks = window(1, 2, max_entries=3)
    assert (acks.free, acks.full) == (1, False)
    acks.add(one(3))
    assert (acks.free, acks.full) == (0, True)
    acks.settle(ids(1))
    assert (acks.free, acks.full) == (1, False)


@pytest.mark.parametrize("bogus", [StreamId(10**15, 1), StreamId(103, 2), StreamId(104, 4_000)])
def test_an_ack_of_what_was_never_written_covers_nothing_before_it(bogus: StreamId) -> None:
    """A client of 1.1 may name the message of one destination and the subscription to another."""
    acks = window(1, 2, 3, 4)
    assert acks.covered(bogus, cumulative=True) == []
    assert acks.covered(bogus, cumulative=False) == []


def test_an_individual_ack_covers_one_and_the_cursor_waits_for_those_before() -> None:
    acks = window(1, 2, 3, 4)
    assert acks.covered(one(3), cumulative=False) == ids(3)
    acks.settle(ids(3))
    acks.settle(ids(2))
    assert acks.cursor == StreamId(0, 0)
    acks.settle(ids(1))
    assert acks.cursor == one(3)


def test_what_was_skipped_needs_no_ack_but_waits_for_what_is_before_it() -> None:
    acks = window(1)
    acks.skip(one(2))
    assert acks.cursor == StreamId(0, 0)
    acks.settle(ids(1))
    assert acks.cursor == one(2)
    acks.skip(one(3))
    assert acks.cursor == one(3)


def test_a_rejected_message_is_covered_once_and_holds_the_cursor_until_it_is_settled() -> None:
    acks = window(1, 2)
    acks.reject(acks.covered(one(1), cumulative=False))
    assert acks.covered(one(2), cumulative=True) == ids(2)
    acks.settle(ids(2))
    assert acks.cursor == StreamId(0, 0)
    acks.settle(ids(1))
    assert acks.cursor == one(2)


def test_the_window_is_full_at_its_limit_and_settled_entries_behind_a_hole_still_count() -> None:
    acks = window(1, 2, 3, max_entries=3)
    assert acks.full
    acks.settle(ids(2, 3))
    assert acks.full
    acks.settle(ids(1))
    assert not acks.full


def test_after_a_reset_older_entries_are_forgotten() -> None:
    acks = window(5, 6)
    acks.reset(one(2))
    assert acks.covered(one(6), cumulative=True) == []
    assert acks.cursor == one(2)


def test_a_log_that_went_back_takes_the_cursor_and_what_was_written_behind_its_end_with_it() -> None:
    acks = window(4, 5, 6)
    acks.settle(ids(4))
    acks.truncate(one(5))
    assert (acks.cursor, acks.covered(one(6), cumulative=True)) == (one(4), ids(5))
    acks.truncate(one(3))
    assert (acks.cursor, acks.covered(one(6), cumulative=True)) == (one(3), [])
