"""The state machine of a subscription, step by step (ARCHITECTURE.md, steps 10 to 13)."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pushcluster_contract.ids import ZERO_ID, StreamId
from pushcluster_contract.limits import LOG_PAGE_BYTES
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.session.delivery import (
    DeliveryMachine,
    Gap,
    LogState,
    Output,
    Phase,
    ReadPage,
    Ready,
    Write,
)
from pushcluster_gateway.stomp.frames import AckMode

ROOM = 10_000
NOW_MS = 5_000
PAGE = 3
NO_LOG = LogState(0, ZERO_ID, ZERO_ID, ZERO_ID, 1)


def at(seq: int, base_ms: int = 1_000) -> StreamId:
    return StreamId(base_ms + seq, seq) if seq else ZERO_ID


def entry(seq: int, *, size: int = 10, expires_ms: int = 0, base_ms: int = 1_000) -> LogEntry:
    return LogEntry(at(seq, base_ms), b"x" * size, expires_ms=expires_ms)


def entries(first: int, last: int) -> list[LogEntry]:
    return [entry(seq) for seq in range(first, last + 1)]


def log(newest: int, *, cursor: int = 0, sent: int = 0, oldest: int = 1, born_ms: int = 1_000) -> LogState:
    return LogState(born_ms, at(newest), at(cursor), at(sent), oldest)


def subscription(
    mode: AckMode = AckMode.AUTO, last: StreamId | None = None, max_unacked: int = 100, page_entries: int = PAGE
) -> DeliveryMachine:
    return DeliveryMachine(ack_mode=mode, last_message_id=last, max_unacked=max_unacked, page_entries=page_entries)


def asked(outputs: Sequence[Output]) -> ReadPage:
    (page,) = [output for output in outputs if isinstance(output, ReadPage)]
    return page


def written(outputs: Sequence[Output]) -> list[int]:
    return [output.entry.id.seq for output in outputs if isinstance(output, Write)]


def subscribed_page(page: Sequence[LogEntry], free_bytes: int = ROOM) -> list[Output]:
    """Return what becomes of the first page of a log."""
    sub = subscription()
    return sub.receive_page(asked(sub.registered(log(page[-1].id.seq))), page, free_bytes, NOW_MS)


def is_live(sub: DeliveryMachine) -> bool:
    return sub.phase is Phase.LIVE


def live(newest: int = 0, mode: AckMode = AckMode.AUTO, max_unacked: int = 100) -> DeliveryMachine:
    """Return one that has caught up with a log whose cursor is at its newest entry."""
    sub = subscription(mode, max_unacked=max_unacked)
    outputs = sub.registered(log(newest, cursor=newest))
    sub.receive_page(asked(outputs), [], ROOM, NOW_MS)
    assert is_live(sub)
    return sub


class TestCatchup:
    def test_it_starts_after_the_cursor(self) -> None:
        assert asked(subscription().registered(log(9, cursor=4))).after == at(4)

    def test_it_reads_page_by_page_until_a_short_one_and_then_is_live(self) -> None:
        sub = subscription()
        page = asked(sub.registered(log(4)))
        assert page.limit == PAGE
        first = sub.receive_page(page, entries(1, 3), ROOM, NOW_MS)
        assert first[0] == Ready(None)
        assert written(first) == [1, 2, 3]
        assert not is_live(sub)
        second = sub.receive_page(asked(first), entries(4, 4), ROOM, NOW_MS)
        assert written(second) == [4]
        assert is_live(sub)

    def test_a_copy_that_comes_meanwhile_is_not_written_but_read(self) -> None:
        sub = subscription()
        page = asked(sub.registered(log(1)))
        assert sub.receive_copy(entry(2), ROOM, NOW_MS) == []
        outputs = sub.receive_page(page, entries(1, 1), ROOM, NOW_MS)
        assert written(outputs) == [1]
        assert not is_live(sub), "2 was seen, and the page did not have it"
        assert written(sub.receive_page(asked(outputs), entries(2, 2), ROOM, NOW_MS)) == [2]
        assert is_live(sub)

    def test_of_copies_that_come_meanwhile_the_newest_counts_in_whatever_order_they_come(self) -> None:
        sub = subscription()
        page = asked(sub.registered(log(1)))
        for seq in (4, 2):
            sub.receive_copy(entry(seq), ROOM, NOW_MS)
        outputs = sub.receive_page(page, entries(1, 2), ROOM, NOW_MS)
        assert not is_live(sub), "4 was seen, and the page did not have it"
        assert asked(outputs).after == at(2)

    def test_a_page_that_its_bytes_have_cut_is_not_the_end_of_the_log(self) -> None:
        """The log had 3 when it was registered; 4 and 5 came since, and their copies were lost."""
        sub = subscription(page_entries=100)
        outputs = sub.receive_page(asked(sub.registered(log(3))), entries(1, 3), ROOM, NOW_MS, cut=True)
        assert written(outputs) == [1, 2, 3]
        assert not is_live(sub)
        assert asked(outputs).after == at(3)
        outputs = sub.receive_page(asked(outputs), entries(4, 5), ROOM, NOW_MS, cut=False)
        assert written(outputs) == [4, 5]
        assert is_live(sub)

    def test_a_copy_before_the_registration_counts_as_seen(self) -> None:
        sub = subscription()
        assert sub.receive_copy(entry(2), ROOM, NOW_MS) == []
        outputs = sub.receive_page(asked(sub.registered(log(1))), entries(1, 1), ROOM, NOW_MS)
        assert not is_live(sub)
        assert written(sub.receive_page(asked(outputs), entries(2, 2), ROOM, NOW_MS)) == [2]

    def test_with_a_full_outbox_it_waits_and_continues_where_it_stopped(self) -> None:
        sub = subscription()
        outputs = sub.receive_page(asked(sub.registered(log(3))), entries(1, 3), 15, NOW_MS)
        assert written(outputs) == [1, 2], "the second one is larger than the room that was left"
        assert sub.waits
        assert sub.proceed(0) == []
        again = asked(sub.proceed(ROOM))
        assert again.after == at(2)
        assert not sub.waits

    def test_it_asks_for_a_page_and_its_client_says_how_much_of_it_there_is_room_for(self) -> None:
        sub = subscription(page_entries=100)
        first = asked(sub.registered(log(200)))
        assert (first.limit, first.max_bytes) == (100, LOG_PAGE_BYTES)
        page = [entry(n, size=1_000) for n in range(1, 101)]
        assert len(written(sub.receive_page(first, page, 5_500, NOW_MS))) == 6
        assert asked(sub.proceed(9_000)).max_bytes == LOG_PAGE_BYTES
        assert sub.waits is False

    def test_pages_are_first_ones_until_one_has_come(self) -> None:
        sub = subscription()
        assert asked(sub.registered(log(9))).is_first
        again = asked(sub.refreshed(log(9), at(0), resync=True, free_bytes=ROOM))
        assert again.is_first, "what was read before the registry was written again does not count"
        assert not asked(sub.receive_page(again, entries(1, 3), ROOM, NOW_MS)).is_first

    def test_one_byte_of_room_is_room_for_an_entry(self) -> None:
        assert written(subscribed_page(entries(1, 3), free_bytes=1)) == [1]
        assert written(subscribed_page(entries(1, 3), free_bytes=0)) == []

    def test_a_page_that_comes_twice_is_taken_once(self) -> None:
        sub = subscription()
        page = asked(sub.registered(log(2)))
        assert written(sub.receive_page(page, entries(1, 2), ROOM, NOW_MS)) == [1, 2]
        assert sub.receive_page(page, entries(3, 3), ROOM, NOW_MS) == []

    def test_a_page_that_was_not_asked_for_is_ignored(self) -> None:
        sub = subscription()
        page = asked(sub.registered(log(3)))
        outputs = sub.receive_page(page, entries(1, 3), ROOM, NOW_MS)
        assert sub.receive_page(page, entries(1, 3), ROOM, NOW_MS) == []
        assert asked(outputs).ticket != page.ticket

    def test_expired_entries_are_passed_over_but_count_as_seen(self) -> None:
        sub = subscription()
        page = [entry(1), entry(2, expires_ms=NOW_MS - 1), entry(3, expires_ms=NOW_MS)]
        outputs = sub.receive_page(asked(sub.registered(log(3))), page, ROOM, NOW_MS)
        assert written(outputs) == [1, 3]
        assert not [output for output in outputs if isinstance(output, Gap)]
        assert sub.position == sub.sent == at(3)

    def test_an_expired_newest_entry_moves_the_position_but_was_not_sent(self) -> None:
        sub = live(1)
        assert sub.receive_copy(entry(2, expires_ms=1), ROOM, NOW_MS) == []
        assert (sub.position, sub.sent) == (at(2), ZERO_ID)

    def test_what_was_sent_before_is_marked_as_redelivered(self) -> None:
        sub = subscription()
        outputs = sub.receive_page(asked(sub.registered(log(3, sent=2))), entries(1, 3), ROOM, NOW_MS)
        assert [output.redelivered for output in outputs if isinstance(output, Write)] == [True, True, False]

    @pytest.mark.parametrize("seq", [1, 4])
    def test_a_copy_of_what_the_log_had_at_registration_only_makes_it_read(self, seq: int) -> None:
        """It may be of a log that is gone: what the log holds counts."""
        sub = subscription()
        page = asked(sub.registered(log(4, cursor=0)))
        assert sub.receive_copy(entry(seq), ROOM, NOW_MS) == [], "a read is under way"
        assert sub.phase is Phase.CATCHUP
        assert written(sub.receive_page(page, entries(1, 3), ROOM, NOW_MS)) == [1, 2, 3]

    @pytest.mark.parametrize(
        ("state", "hint"),
        [
            (LogState(1_000, at(2), at(1), ZERO_ID, 1), StreamId(1_002, 2)),
            (LogState(1_000, at(2), at(1), ZERO_ID, 1), StreamId(1_001, 3)),
            (LogState(1_000, at(2), at(1), at(9), 1), StreamId(1_005, 3)),
            (LogState(1_000, at(2), at(1), StreamId(1_005, 3), 1), StreamId(1_005, 3)),
            (LogState(1_000, at(2), at(1), ZERO_ID, 1, now_ms=5_000), StreamId(4_999, 3)),
        ],
        ids=[
            "the newest",
            "older than the newest",
            "older than what was sent",
            "what was sent",
            "older than the registration",
        ],
    )
    def test_a_copy_from_before_the_registration_is_never_written_as_it_is(
        self, state: LogState, hint: StreamId
    ) -> None:
        sub = subscription()
        assert written(sub.receive_page(asked(sub.registered(state)), entries(2, 2), ROOM, NOW_MS)) == [2]
        assert is_live(sub)
        late = LogEntry(hint, b"x")
        assert not sub.accept_next(late, ROOM)
        outputs = sub.receive_copy(late, ROOM, NOW_MS)
        assert written(outputs) == []
        assert is_live(sub) or asked(outputs).after == at(2), "the log says what there is"

    def test_a_copy_from_after_the_registration_is_written(self) -> None:
        sub = subscription()
        sub.receive_page(
            asked(sub.registered(LogState(0, ZERO_ID, ZERO_ID, ZERO_ID, 1, now_ms=5_000))), [], ROOM, NOW_MS
        )
        assert sub.accept_next(LogEntry(StreamId(5_000, 1), b"x"), ROOM), "the same millisecond is none before it"

    def test_what_the_log_had_at_registration_and_has_not_any_more_is_told(self) -> None:
        sub = subscription()
        outputs = sub.receive_page(asked(sub.registered(log(4))), [], ROOM, NOW_MS)
        assert outputs == [Gap(0, 5), Ready(recovered=False)]
        assert is_live(sub)

    def test_a_short_page_without_what_the_log_had_at_registration_is_not_the_end(self) -> None:
        sub = subscription()
        outputs = sub.receive_page(asked(sub.registered(log(4))), entries(1, 2), ROOM, NOW_MS)
        assert not is_live(sub)
        assert asked(outputs).after == at(2)

    def test_before_it_is_registered_nothing_is_read(self) -> None:
        sub = subscription()
        assert sub.refreshed(log(4), ZERO_ID, resync=True, free_bytes=ROOM) == []
        assert sub.proceed(ROOM) == []
        assert not sub.waits

    def test_while_it_knows_no_entry_s_size_it_asks_for_a_whole_page(self) -> None:
        sub = subscription()
        sub.registered(log(4))
        assert asked(sub.refreshed(log(4), sub.position, resync=True, free_bytes=1)).limit == PAGE


class TestLive:
    def test_the_next_copy_is_written(self) -> None:
        sub = live(4)
        assert written(sub.receive_copy(entry(5), ROOM, NOW_MS)) == [5]
        assert not sub.waits

    def test_an_old_copy_is_dropped(self) -> None:
        sub = live(4)
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        assert sub.receive_copy(entry(5), ROOM, NOW_MS) == []
        assert sub.receive_copy(entry(3), ROOM, NOW_MS) == []
        assert is_live(sub)

    def test_a_hole_is_filled_from_the_log_in_order(self) -> None:
        sub = live(4)
        outputs = sub.receive_copy(entry(6), ROOM, NOW_MS)
        assert asked(outputs).after == at(4)
        outputs = sub.receive_page(asked(outputs), entries(5, 6), ROOM, NOW_MS)
        assert written(outputs) == [5, 6]
        assert not [output for output in outputs if isinstance(output, Gap | Ready)]
        assert is_live(sub)

    def test_a_full_outbox_pauses_it_and_the_copy_is_read_later(self) -> None:
        sub = live(4)
        assert sub.receive_copy(entry(5), 0, NOW_MS) == []
        assert sub.waits
        outputs = sub.receive_page(asked(sub.proceed(ROOM)), entries(5, 5), ROOM, NOW_MS)
        assert written(outputs) == [5]
        assert is_live(sub)

    def test_a_newer_log_seen_by_the_walk_is_read(self) -> None:
        sub = live(4)
        outputs = sub.refreshed(log(5), sub.position, resync=False, free_bytes=ROOM)
        assert asked(outputs).after == at(4)

    def test_a_walk_that_sees_nothing_new_changes_nothing(self) -> None:
        sub = live(4)
        assert sub.refreshed(log(4), sub.position, resync=False, free_bytes=ROOM) == []
        assert is_live(sub)

    def test_a_resync_reads_the_log_in_any_case(self) -> None:
        sub = live(4)
        assert asked(sub.refreshed(log(4), sub.position, resync=True, free_bytes=ROOM)).after == at(4)

    def test_a_page_from_before_a_resync_proves_nothing(self) -> None:
        sub = subscription()
        before = asked(sub.registered(log(0)))
        after = asked(sub.refreshed(log(0), sub.position, resync=True, free_bytes=ROOM))
        assert sub.receive_page(before, [], ROOM, NOW_MS) == []
        assert not is_live(sub)
        sub.receive_page(after, [], ROOM, NOW_MS)
        assert is_live(sub)


def given(last: StreamId, state: LogState) -> LogState:
    """Return what SUBSCRIBE says of this log to a client that has `last`, as it says."""
    held = [at(seq) for seq in range(state.oldest_seq, state.newest.seq + 1) if at(seq) <= last]
    return replace(state, held=held[-1] if held else None)


class TestResume:
    def resumed(
        self, last: StreamId, state: LogState, page: Sequence[LogEntry]
    ) -> tuple[DeliveryMachine, list[Output]]:
        sub = subscription(last=last)
        return sub, sub.receive_page(asked(sub.registered(given(last, state))), page, ROOM, NOW_MS)

    def test_what_was_missed_is_replayed_and_recovered_is_true(self) -> None:
        _, outputs = self.resumed(at(2), log(4, cursor=4), entries(3, 4))
        assert outputs[0] == Ready(recovered=True)
        assert [o.recovered for o in outputs if isinstance(o, Write)] == [True, None]
        assert written(outputs) == [3, 4]

    def test_when_nothing_was_missed_the_first_message_still_says_recovered(self) -> None:
        sub, outputs = self.resumed(at(4), log(4, cursor=4, oldest=5), [])
        assert outputs == [Ready(recovered=True)]
        (write,) = sub.receive_copy(entry(5), ROOM, NOW_MS)
        assert isinstance(write, Write)
        assert write.recovered is True

    @pytest.mark.parametrize(
        ("last", "state"),
        [
            (at(2), log(9, oldest=4)),
            (at(2), log(9, born_ms=at(2).ms + 1)),
            (at(10), log(9)),
            (StreamId(10**15, 3), log(9)),
            (at(2), log(0, born_ms=0)),
            (StreamId(at(5).ms, 4), log(9)),
            (StreamId(at(5).ms, 6), log(9)),
            (StreamId(at(5).ms - 1, 5), log(9)),
            (StreamId(at(9).ms - 1, 9), log(9)),
            (StreamId(at(9).ms - 1, 9), log(9, oldest=10)),
            (StreamId(at(5).ms, 3), log(9, oldest=4)),
        ],
        ids=[
            *("trimmed", "another log", "past the end", "from the future", "no log at all"),
            *("a number of another log", "the same", "a time of another log", "the newest number", "of an empty log"),
            "of an entry that has left",
        ],
    )
    def test_an_id_that_this_log_never_had_or_that_is_too_old_starts_at_the_cursor_at_most_and_is_told(
        self, last: StreamId, state: LogState
    ) -> None:
        for cursor in (0, state.newest.seq):
            sub = subscription(last=last)
            page = asked(sub.registered(given(last, replace(state, cursor=at(cursor)))))
            assert page.after == min(last, at(cursor))
            outputs = sub.receive_page(page, [], ROOM, NOW_MS)
            assert Ready(recovered=False) in outputs
            assert sub.position <= state.newest, "or nothing would ever be delivered again"

    @pytest.mark.parametrize("mode", list(AckMode))
    def test_an_id_that_never_was_moves_no_cursor_past_what_waits(self, mode: AckMode) -> None:
        sub = subscription(mode, last=StreamId(10**15, 7))
        page = asked(sub.registered(given(StreamId(10**15, 7), log(10, cursor=3, sent=3))))
        assert (page.after, sub.position) == (at(3), at(3))
        assert sub.window is None or sub.window.cursor == at(3)
        assert written(sub.receive_page(page, entries(4, 6), ROOM, NOW_MS)) == [4, 5, 6]

    @pytest.mark.parametrize("mode", list(AckMode))
    def test_what_no_session_is_known_to_have_got_comes_again_to_a_client_that_says_it_has_it(
        self, mode: AckMode
    ) -> None:
        """Whether it has, or has seen this id elsewhere, the gateway cannot know."""
        sub = subscription(mode, last=at(4))
        page = asked(sub.registered(given(at(4), log(6, cursor=2, sent=3))))
        assert page.after == at(2)
        outputs = sub.receive_page(page, entries(3, 5), ROOM, NOW_MS)
        assert outputs[0] == Ready(recovered=True), "it misses nothing"
        writes = [output for output in outputs if isinstance(output, Write)]
        assert [(w.entry.id.seq, w.redelivered, w.recovered) for w in writes] == [
            (3, True, True),
            (4, True, None),
            (5, False, None),
        ]

    @pytest.mark.parametrize(
        ("page", "gaps"),
        [([4, 5, 6], []), ([5, 6], []), ([6], [Gap(4, 6)]), ([], [Gap(4, 7)])],
        ids=["it has one of them", "it has them all", "it has not", "the log is empty"],
    )
    def test_what_has_left_the_log_is_a_gap_only_if_the_client_has_it_not(
        self, page: list[int], gaps: list[Gap]
    ) -> None:
        sub = subscription(last=at(4))
        asked_page = asked(sub.registered(given(at(4), log(6, cursor=2))))
        outputs = sub.receive_page(asked_page, [entry(seq) for seq in page], ROOM, NOW_MS)
        assert [output for output in outputs if isinstance(output, Gap)] == gaps
        assert [output for output in outputs if isinstance(output, Ready)] == [Ready(recovered=not gaps)]
        assert written(outputs) == page

    def test_a_client_that_has_everything_of_a_log_that_has_become_empty_misses_nothing(self) -> None:
        sub = subscription(last=at(6))
        outputs = sub.receive_page(asked(sub.registered(given(at(6), log(6, cursor=4)))), [], ROOM, NOW_MS)
        assert outputs == [Ready(recovered=True)]
        assert (sub.position, is_live(sub)) == (at(6), True)

    def test_what_a_client_has_of_a_log_that_lost_its_end_is_a_gap_again(self) -> None:
        sub = subscription(last=at(6))
        sub.registered(given(at(6), log(6, cursor=4)))
        page = asked(sub.refreshed(log(3), sub.position, resync=True, free_bytes=ROOM))
        outputs = sub.receive_page(page, [entry(5)], ROOM, NOW_MS)
        assert Gap(3, 5) in outputs

    @pytest.mark.parametrize(
        ("last", "state"),
        [
            (at(2), log(4, born_ms=at(2).ms + 1)),
            (at(2), log(4, oldest=4)),
            (StreamId(at(2).ms, 5), log(4)),
        ],
        ids=["it is younger than the id", "it has lost the next one", "it has never got as far"],
    )
    def test_an_id_of_a_log_that_was_lost_is_told_even_when_the_new_log_seems_to_go_on(
        self, last: StreamId, state: LogState
    ) -> None:
        page = [LogEntry(StreamId(at(4).ms, last.seq + 1), b"x")]
        _, outputs = self.resumed(last, state, page)
        assert outputs[0] == Ready(recovered=False)
        assert written(outputs) == [last.seq + 1]

    @pytest.mark.parametrize("state", [log(9, oldest=4), log(9, born_ms=at(3).ms)], ids=["oldest", "first"])
    def test_an_entry_just_before_the_oldest_or_as_old_as_the_log_is_enough(self, state: LogState) -> None:
        _, outputs = self.resumed(at(3), state, entries(4, 6))
        assert outputs[0] == Ready(recovered=True)

    @pytest.mark.parametrize(
        ("last", "state", "follows"),
        [
            (StreamId(at(3).ms, 3), log(9, oldest=4), True),
            (StreamId(1_000, 3), log(9, oldest=4), True),
            (StreamId(999, 3), log(9, oldest=4), False),
            (StreamId(at(9).ms, 3), log(9, oldest=4), True),
            (StreamId(at(9).ms + 1, 3), log(9, oldest=4), False),
            (StreamId(at(5).ms, 3), replace(log(9, oldest=4), held=at(4)), False),
            (at(8), log(9, oldest=9), True),
            (at(8), log(8, oldest=9), True),
            (StreamId(at(7).ms, 8), log(8, oldest=9), False),
        ],
        ids=[
            *("its own", "as old as the log", "older", "as young as its newest", "younger", "younger than one there"),
            *("all but one have left", "all have left", "all have left, and it is none of them"),
        ],
    )
    def test_an_entry_that_has_left_must_be_of_the_time_of_this_log(
        self, last: StreamId, state: LogState, *, follows: bool
    ) -> None:
        assert state.follows(last) is follows

    def test_a_first_page_with_a_hole_is_told_before_its_first_message(self) -> None:
        _, outputs = self.resumed(at(2), log(5), entries(4, 5))
        assert outputs[0] == Ready(recovered=False)
        assert Gap(2, 4) in outputs
        assert [o.recovered for o in outputs if isinstance(o, Write)] == [False, None]

    def test_a_first_page_that_cannot_be_written_yet_is_still_judged(self) -> None:
        sub = subscription(last=at(2))
        outputs = sub.receive_page(asked(sub.registered(log(5))), entries(4, 5), 0, NOW_MS)
        assert outputs == [Ready(recovered=False)]


class TestGaps:
    def test_a_subscription_without_resume_says_recovered_only_when_something_was_dropped(self) -> None:
        sub = subscription()
        outputs = sub.receive_page(asked(sub.registered(log(9, cursor=2, oldest=5))), entries(5, 7), ROOM, NOW_MS)
        assert outputs[0] == Ready(recovered=False)
        assert [o.recovered for o in outputs if isinstance(o, Write)] == [False, None, None]

    def test_a_hole_in_the_middle_of_a_page_is_told_with_the_message_after_it(self) -> None:
        outputs = subscribed_page([entry(1), entry(3), entry(4)])
        assert Gap(1, 3) in outputs
        assert [o.recovered for o in outputs if isinstance(o, Write)] == [None, False, None]

    def test_entries_that_are_gone_are_told_and_do_not_stop_it(self) -> None:
        sub = live(4)
        outputs = sub.receive_page(asked(sub.receive_copy(entry(6), ROOM, NOW_MS)), [], ROOM, NOW_MS)
        assert Gap(4, 7) in outputs
        assert is_live(sub)
        (write,) = sub.receive_copy(entry(7), ROOM, NOW_MS)
        assert isinstance(write, Write)
        assert write.recovered is False

    def test_an_empty_page_that_was_read_before_the_copy_came_is_no_gap(self) -> None:
        sub = live(4)
        page = asked(sub.refreshed(log(4), sub.position, resync=True, free_bytes=ROOM))
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        outputs = sub.receive_page(page, [], ROOM, NOW_MS)
        assert not [output for output in outputs if isinstance(output, Gap)]
        assert asked(outputs).after == at(4)

    def test_a_lost_log_is_read_from_its_new_beginning(self) -> None:
        sub = live(4)
        outputs = sub.refreshed(
            LogState(9_000, ZERO_ID, ZERO_ID, ZERO_ID, 1), sub.position, resync=True, free_bytes=ROOM
        )
        assert asked(outputs).after == ZERO_ID
        (write, *_) = sub.receive_page(asked(outputs), [entry(1, base_ms=9_000)], ROOM, NOW_MS)
        assert isinstance(write, Write)
        assert write.recovered is False

    def test_a_stale_answer_of_the_walk_is_not_taken_for_a_lost_log(self) -> None:
        sub = live(4)
        asked_at = sub.position
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        assert sub.refreshed(log(4), asked_at, resync=False, free_bytes=ROOM) == []
        assert sub.position == at(5)

    def test_an_answer_older_than_what_was_written_since_is_not_taken_for_a_lost_log(self) -> None:
        sub = live(4)
        asked_at = sub.position
        page = asked(sub.receive_copy(entry(6, base_ms=9_000), ROOM, NOW_MS))
        sub.receive_page(page, [entry(seq, base_ms=9_000) for seq in (3, 4, 5, 6)], ROOM, NOW_MS)
        sub.refreshed(log(2), asked_at, resync=True, free_bytes=ROOM)
        assert sub.position == at(6, 9_000), "it has got past what Redis had lost"

    def test_a_late_copy_of_a_lost_log_is_not_written(self) -> None:
        sub = live(4)
        page = asked(sub.refreshed(NO_LOG, sub.position, resync=True, free_bytes=ROOM))
        sub.receive_page(page, [], ROOM, NOW_MS)
        assert is_live(sub)
        outputs = sub.receive_copy(entry(1), ROOM, NOW_MS)
        assert written(outputs) == []
        assert asked(outputs).after == ZERO_ID, "the log says what there is"

    @pytest.mark.parametrize("page", [[], entries(5, 5)], ids=["empty", "not empty"])
    def test_a_copy_that_is_taken_for_one_of_a_lost_log_makes_a_page_that_is_under_way_outdated(
        self, page: list[LogEntry]
    ) -> None:
        """The copy may be right: Redis TIME was set back, so new ids look old."""
        sub = subscription()
        state = LogState(1_000, at(4), at(4), ZERO_ID, 1, now_ms=5_000)
        first = asked(sub.registered(state))
        assert sub.receive_copy(entry(5), ROOM, NOW_MS) == []
        outputs = sub.receive_page(first, page, ROOM, NOW_MS)
        assert not is_live(sub)
        sub.receive_page(asked(outputs), entries(5 + len(page), 6), ROOM, NOW_MS)
        assert is_live(sub)
        assert sub.position == at(6)

    def test_after_a_lost_log_its_entries_are_marked_as_redelivered_and_later_ones_are_not(self) -> None:
        sub = live(4)
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        page = asked(sub.refreshed(log(3), sub.position, resync=True, free_bytes=ROOM))
        assert page.after == at(3)
        outputs = sub.receive_page(page, [entry(4), entry(5), entry(6)], ROOM, NOW_MS)
        assert [output.redelivered for output in outputs if isinstance(output, Write)] == [True, True, False]
        assert [output.recovered for output in outputs if isinstance(output, Write)] == [False, None, None]

    def test_a_late_copy_of_what_was_seen_and_never_written_of_a_lost_log_only_makes_it_read(self) -> None:
        sub = live(4)
        sub.receive_copy(entry(9), 0, NOW_MS)  # seen, and there was no room for it
        page = asked(sub.refreshed(NO_LOG, sub.position, resync=True, free_bytes=ROOM))
        sub.receive_page(page, [], ROOM, NOW_MS)
        assert is_live(sub)
        late = LogEntry(StreamId(at(9).ms, 1), b"x")
        assert not sub.accept_next(late, ROOM)
        outputs = sub.receive_copy(late, ROOM, NOW_MS)
        assert (written(outputs), asked(outputs).after) == ([], ZERO_ID)

    def test_what_was_sent_before_the_registration_is_still_known_after_a_lost_log(self) -> None:
        sub = subscription()
        sub.receive_page(asked(sub.registered(log(4, cursor=4, sent=9))), [], ROOM, NOW_MS)
        page = asked(sub.refreshed(log(3), sub.position, resync=True, free_bytes=ROOM))
        outputs = sub.receive_page(page, entries(4, 6), ROOM, NOW_MS)
        assert [output.redelivered for output in outputs if isinstance(output, Write)] == [True, True, True]

    @pytest.mark.parametrize(
        ("registered", "copies", "late_ms"),
        [
            (LogState(1_000, at(4), at(4), ZERO_ID, 1, now_ms=5_000), [], 4_999),
            (log(4, cursor=4), [5, 6, 7], at(6).ms),
        ],
        ids=["older than the registration", "older than what was written"],
    )
    def test_after_a_lost_log_a_late_copy_of_it_only_makes_it_read(
        self, registered: LogState, copies: list[int], late_ms: int
    ) -> None:
        sub = subscription()
        sub.receive_page(asked(sub.registered(registered)), [], ROOM, NOW_MS)
        for seq in copies:
            assert written(sub.receive_copy(entry(seq), ROOM, NOW_MS)) == [seq]
        sub.receive_page(asked(sub.refreshed(NO_LOG, sub.position, resync=True, free_bytes=ROOM)), [], ROOM, NOW_MS)
        assert is_live(sub)
        outputs = sub.receive_copy(LogEntry(StreamId(late_ms, 1), b"x"), ROOM, NOW_MS)
        assert (written(outputs), asked(outputs).after) == ([], ZERO_ID)

    def test_a_page_of_a_lost_log_that_comes_late_is_ignored(self) -> None:
        sub = live(4)
        late = asked(sub.receive_copy(entry(6), ROOM, NOW_MS))
        again = asked(sub.refreshed(NO_LOG, sub.position, resync=False, free_bytes=ROOM))
        assert again.after == ZERO_ID, "it is asked anew, although an answer is under way"
        assert sub.receive_page(late, entries(5, 6), ROOM, NOW_MS) == []

    def test_what_was_seen_of_a_lost_log_is_not_waited_for(self) -> None:
        sub = live(4)
        sub.receive_copy(entry(9), 0, NOW_MS)
        page = asked(sub.refreshed(NO_LOG, sub.position, resync=True, free_bytes=ROOM))
        outputs = sub.receive_page(page, [], ROOM, NOW_MS)
        assert not [output for output in outputs if isinstance(output, Gap)], "nothing was there to be gone"
        assert is_live(sub)

    def test_the_first_log_of_a_destination_is_no_other_one(self) -> None:
        sub = subscription()
        sub.receive_page(asked(sub.registered(NO_LOG)), [], ROOM, NOW_MS)
        sub.refreshed(log(1, born_ms=9_000), sub.position, resync=False, free_bytes=0)
        assert written(outputs := sub.receive_page(asked(sub.proceed(ROOM)), entries(1, 1), ROOM, NOW_MS)) == [1]
        assert [output.recovered for output in outputs if isinstance(output, Write)] == [None]

    def test_an_entry_as_old_as_the_new_log_belongs_to_it(self) -> None:
        sub = live(4)
        first = LogEntry(StreamId(9_000, 5), b"x")
        sub.receive_copy(first, ROOM, NOW_MS)
        sub.refreshed(LogState(9_000, first.id, ZERO_ID, ZERO_ID, 1), sub.position, resync=False, free_bytes=ROOM)
        assert (sub.position, is_live(sub)) == (first.id, True)

    def test_what_a_copy_has_shown_is_read_although_the_walk_has_not_seen_it_yet(self) -> None:
        sub = live(4)
        sub.receive_copy(entry(9), 0, NOW_MS)
        page = asked(sub.refreshed(log(5), sub.position, resync=True, free_bytes=ROOM))
        outputs = sub.receive_page(page, entries(5, 5), ROOM, NOW_MS)
        assert not is_live(sub)
        assert asked(outputs).after == at(5)

    def test_a_log_that_is_as_old_as_before_is_no_other_one(self) -> None:
        sub = live(4)
        sub.refreshed(log(4), sub.position, resync=False, free_bytes=ROOM)
        (write,) = sub.receive_copy(entry(5), ROOM, NOW_MS)
        assert isinstance(write, Write)
        assert write.recovered is None

    def test_the_birth_of_the_log_that_it_reads_now_is_remembered(self) -> None:
        sub = live(4)
        born_late = LogState(9_000, at(5, 9_000), ZERO_ID, ZERO_ID, 1)
        sub.receive_copy(entry(5, base_ms=9_000), ROOM, NOW_MS)
        sub.refreshed(born_late, sub.position, resync=False, free_bytes=ROOM)
        sub.receive_copy(entry(6, base_ms=9_000), ROOM, NOW_MS)  # says recovered:false
        sub.refreshed(replace(born_late, newest=at(6, 9_000)), sub.position, resync=False, free_bytes=ROOM)
        (write,) = sub.receive_copy(entry(7, base_ms=9_000), ROOM, NOW_MS)
        assert isinstance(write, Write)
        assert write.recovered is None, "it is told once"

    def test_a_log_that_began_anew_and_has_grown_past_the_position_is_read_from_its_beginning(self) -> None:
        sub = live(4)
        new = LogState(9_000, at(7, 9_000), ZERO_ID, ZERO_ID, 1)
        outputs = sub.refreshed(new, sub.position, resync=True, free_bytes=ROOM)
        assert asked(outputs).after == ZERO_ID
        (write, *_) = sub.receive_page(asked(outputs), [entry(1, base_ms=9_000)], ROOM, NOW_MS)
        assert isinstance(write, Write)
        assert write.recovered is False

    def test_a_log_that_began_anew_unnoticed_is_told_with_the_next_message(self) -> None:
        sub = live(4)
        sub.receive_copy(entry(5, base_ms=9_000), ROOM, NOW_MS)  # it looks like the next one
        sub.refreshed(LogState(9_000, at(5, 9_000), ZERO_ID, ZERO_ID, 1), sub.position, resync=False, free_bytes=ROOM)
        (write,) = sub.receive_copy(entry(6, base_ms=9_000), ROOM, NOW_MS)
        assert isinstance(write, Write)
        assert write.recovered is False


class TestAcks:
    def test_it_reads_no_more_than_the_window_takes(self) -> None:
        """Else a client that acknowledges one message after the other has a whole page read for each of them."""
        sub = subscription(AckMode.CLIENT_INDIVIDUAL, max_unacked=2)
        page = asked(sub.registered(log(9)))
        assert page.limit == 2 < PAGE
        assert written(sub.receive_page(page, entries(1, 2), ROOM, NOW_MS)) == [1, 2]
        assert asked(sub.settle([at(1)], ROOM)).limit == 1

    @pytest.mark.parametrize("mode", [AckMode.CLIENT, AckMode.CLIENT_INDIVIDUAL])
    def test_it_pauses_at_the_limit_of_unacknowledged_messages(self, mode: AckMode) -> None:
        sub = live(0, mode, max_unacked=2)
        assert written(sub.receive_copy(entry(1), ROOM, NOW_MS)) == [1]
        assert written(sub.receive_copy(entry(2), ROOM, NOW_MS)) == [2]
        assert sub.receive_copy(entry(3), ROOM, NOW_MS) == [], "one more than the limit"
        assert sub.waits
        outputs = sub.settle(sub.covered(at(1)), ROOM)
        assert asked(outputs).after == at(2)
        assert written(sub.receive_page(asked(outputs), entries(3, 3), ROOM, NOW_MS)) == [3]

    @pytest.mark.parametrize("mode", [AckMode.CLIENT, AckMode.CLIENT_INDIVIDUAL])
    def test_a_page_of_the_log_writes_no_more_than_the_limit_either(self, mode: AckMode) -> None:
        sub = subscription(mode, max_unacked=2)
        outputs = sub.receive_page(asked(sub.registered(log(3))), entries(1, 3), ROOM, NOW_MS)
        assert written(outputs) == [1, 2], "one more than the limit"
        assert sub.waits
        assert sub.proceed(ROOM) == [], "room in the outbox is none in the window"
        outputs = sub.settle(sub.covered(at(1)), ROOM)
        assert asked(outputs).after == at(2)
        assert written(sub.receive_page(asked(outputs), entries(3, 3), ROOM, NOW_MS)) == [3]

    @pytest.mark.parametrize("ways", ["copy", "page", "follow"])
    def test_what_comes_after_the_limit_is_not_taken_by_any_way(self, ways: str) -> None:
        sub = live(0, AckMode.CLIENT, max_unacked=1)
        assert sub.accept_next(entry(1), ROOM)
        if ways == "copy":
            assert written(sub.receive_copy(entry(2), ROOM, NOW_MS)) == []
        elif ways == "follow":
            assert not sub.accept_next(entry(2), ROOM)
        else:
            assert sub.refreshed(log(2), sub.position, resync=True, free_bytes=ROOM) == []
        assert sub.position == at(1)

    def test_it_knows_which_message_waits_for_the_client(self) -> None:
        sub = live(4, AckMode.CLIENT_INDIVIDUAL)
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        assert [sub.awaits(at(seq)) for seq in (4, 5, 6)] == [False, True, False]
        assert not live(4).awaits(at(4)), "in mode auto none does"

    @pytest.mark.parametrize(("mode", "left"), [(AckMode.CLIENT, []), (AckMode.CLIENT_INDIVIDUAL, [5])])
    def test_an_ack_covers_what_came_before_only_where_the_mode_says_so(self, mode: AckMode, left: list[int]) -> None:
        sub = live(4, mode)
        for seq in (5, 6):
            sub.receive_copy(entry(seq), ROOM, NOW_MS)
        sub.settle(sub.covered(at(6)), ROOM)
        assert [seq for seq in (5, 6) if sub.awaits(at(seq))] == left

    def test_what_the_client_refused_is_not_covered_again_and_holds_the_cursor_until_it_is_safe(self) -> None:
        sub = live(4, AckMode.CLIENT_INDIVIDUAL)
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        refused = sub.covered(at(5))
        sub.reject(refused)
        assert sub.window is not None
        assert (sub.covered(at(5)), sub.window.cursor) == ([], at(4))
        sub.settle(refused, ROOM)
        assert sub.window.cursor == at(5)

    def test_an_expired_message_needs_no_ack_and_does_not_hold_the_cursor(self) -> None:
        sub = live(4, AckMode.CLIENT_INDIVIDUAL)
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        sub.receive_copy(entry(6, expires_ms=1), ROOM, NOW_MS)
        sub.settle(sub.covered(at(5)), ROOM)
        assert sub.window is not None
        assert sub.window.cursor == at(6)

    def test_the_cursor_waits_for_the_client(self) -> None:
        sub = live(4, AckMode.CLIENT_INDIVIDUAL)
        for seq in (5, 6):
            sub.receive_copy(entry(seq), ROOM, NOW_MS)
        assert sub.window is not None
        sub.settle(sub.covered(at(6)), ROOM)
        assert sub.window.cursor == at(4)
        sub.settle(sub.covered(at(5)), ROOM)
        assert sub.window.cursor == at(6)

    def test_a_lost_log_forgets_what_was_unacknowledged(self) -> None:
        sub = live(4, AckMode.CLIENT)
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        sub.refreshed(NO_LOG, sub.position, resync=True, free_bytes=ROOM)
        assert sub.covered(at(5)) == []

    def test_a_log_that_lost_its_end_forgets_nothing_that_is_there_and_was_not_acknowledged(self) -> None:
        """Its cursor would pass what nobody has, and nobody would get it again."""
        sub = live(4, AckMode.CLIENT_INDIVIDUAL)
        for seq in (5, 6, 7):
            sub.receive_copy(entry(seq), ROOM, NOW_MS)
        sub.refreshed(log(6), sub.position, resync=True, free_bytes=ROOM)
        assert sub.window is not None
        assert sub.window.cursor == at(4)
        sub.settle(sub.covered(at(6)), ROOM)
        assert (sub.window.cursor, sub.covered(at(7))) == (at(4), [])
        sub.settle(sub.covered(at(5)), ROOM)
        assert sub.window.cursor == at(6)

    def test_in_mode_auto_there_is_nothing_to_acknowledge(self) -> None:
        sub = live(4)
        sub.receive_copy(entry(5), ROOM, NOW_MS)
        assert sub.covered(at(5)) == []
