"""The delivery checker itself: it counts every kind of offence, and nothing else."""

from typing import Any

import pytest

from pushcluster_contract.ids import StreamId
from tests.support.delivery_judge import check
from tests.support.delivery_log import Attempt, Entry, Fate, History, Seen, Subscribed
from tests.support.delivery_report import MAX_EXAMPLES, Report


def at(seq: int) -> StreamId:
    return StreamId(1_000 + seq, seq)


def seen(*seqs: int, **facts: bool) -> list[Seen]:
    return [Seen(at(seq), f"m{seq}", **facts) for seq in seqs]


def history(count: int, *subscriptions: Subscribed, confirmed: bool = True) -> History:
    """Return one of messages m1 to m<count>, published at the seconds 1 to <count> and all in the log."""
    numbers = range(1, count + 1)
    return History(
        attempts=[Attempt(f"m{n}", float(n), confirmed=confirmed) for n in numbers],
        log=[Entry(at(n), f"m{n}") for n in numbers],
        subscriptions=list(subscriptions),
    )


def judge(one: History) -> Report:
    return check({("ann", "/queue/x"): one})


def test_everything_seen_once_and_in_order_is_fine() -> None:
    report = judge(history(3, Subscribed("phone", subscribed_at=0.0, seen=seen(1, 2, 3), open=True)))
    assert report.ok
    assert (report.attempted, report.confirmed, report.delivered) == (3, 3, 3)
    assert not report.examples


def test_a_message_that_is_in_no_log_is_lost() -> None:
    one = history(2, Subscribed("phone", seen=seen(1), open=True))
    del one.log[1]
    report = judge(one)
    assert report.lost == 1
    assert "in no log" in report.examples["lost"][0]


def test_what_was_not_confirmed_may_be_missing() -> None:
    one = history(2, Subscribed("phone", seen=seen(1), open=True), confirmed=False)
    del one.log[1]
    assert judge(one).ok


def test_a_hole_between_two_messages_is_a_loss() -> None:
    assert judge(history(3, Subscribed("phone", seen=seen(1, 3), open=True))).lost == 2, "by the session and the user"


def test_a_session_that_stays_behind_at_the_end_is_a_loss_even_if_another_got_it() -> None:
    phone = Subscribed("phone", seen=seen(1, 2), open=True)
    laptop = Subscribed("laptop", subscribed_at=0.5, seen=seen(1), open=True)
    report = judge(history(2, phone, laptop))
    assert report.lost == 1
    assert "laptop" in report.examples["lost"][0]


def test_a_session_that_has_seen_nothing_must_get_what_was_published_after_its_receipt() -> None:
    phone = Subscribed("phone", seen=seen(1, 2), open=True)
    laptop = Subscribed("laptop", subscribed_at=1.5, open=True)
    assert judge(history(2, phone, laptop)).lost == 1


def test_a_session_that_has_ended_owes_nothing_after_what_it_saw() -> None:
    old = Subscribed("phone", subscribed_at=0.0, seen=seen(1))
    new = Subscribed("phone", subscribed_at=1.5, seen=seen(2), open=True)
    assert judge(history(2, old, new)).ok


def test_a_resume_must_begin_where_it_was_asked_to() -> None:
    old = Subscribed("phone", seen=seen(1))
    new = Subscribed("phone", last_message_id=at(1), seen=seen(3, recovered=True), open=True)
    assert judge(history(3, old, new)).lost == 2


def test_a_resume_must_say_whether_it_recovered() -> None:
    old = Subscribed("phone", seen=seen(1))
    new = Subscribed("phone", last_message_id=at(1), seen=seen(2), open=True)
    assert judge(history(2, old, new)).unexpected == 1


def test_in_client_mode_a_message_counts_once_it_is_acknowledged() -> None:
    gone = Subscribed("phone", acknowledges=True, seen=seen(1))
    new = Subscribed("phone", acknowledges=True, open=True)
    assert judge(history(1, gone, new)).lost == 1
    gone.handled.add(at(1))
    assert judge(history(1, gone, new)).ok


def test_who_asks_for_what_follows_has_got_what_came_before() -> None:
    gone = Subscribed("phone", acknowledges=True, seen=seen(1))
    new = Subscribed("phone", acknowledges=True, last_message_id=at(1), open=True)
    assert judge(history(1, gone, new)).ok


def test_who_lies_about_what_it_has_has_not_got_it() -> None:
    gone = Subscribed("phone", acknowledges=True, seen=seen(1))
    new = Subscribed("phone", acknowledges=True, last_message_id=at(1), lies=True, open=True)
    assert judge(history(1, gone, new)).lost == 1


def test_who_lies_about_what_it_has_must_get_what_follows_its_receipt() -> None:
    phone = Subscribed("phone", seen=seen(1, 2), open=True)
    liar = Subscribed("laptop", subscribed_at=1.5, last_message_id=at(9), lies=True, recovered=False, open=True)
    report = judge(history(2, phone, liar))
    assert report.lost == 1
    assert "laptop" in report.examples["lost"][0]


def test_who_lies_about_what_it_has_may_be_told_a_gap_where_nothing_is_missing() -> None:
    for told in (seen(1, recovered=False), []):
        liar = Subscribed("phone", last_message_id=at(9), lies=True, recovered=False, seen=told, open=bool(told))
        one = history(1, liar)
        one.fates_known = True
        assert judge(one).ok


def test_who_lies_about_what_it_has_is_told_no_needless_gap_after_the_first_message() -> None:
    told = seen(1, recovered=False) + seen(2, recovered=False)
    one = history(2, Subscribed("phone", last_message_id=at(9), lies=True, recovered=False, seen=told, open=True))
    one.fates_known = True
    assert judge(one).needless_gaps == 1


@pytest.mark.parametrize(
    ("claim", "may_pass"), [(StreamId(9_000, 9), False), (at(1), True), (StreamId(1_000, 1), True)]
)
def test_who_claims_what_no_log_had_must_be_told_so(claim: StreamId, may_pass: bool) -> None:
    liar = Subscribed("phone", subscribed_at=3.0, last_message_id=claim, lies=True, recovered=True, open=True)
    liar.seen = seen(2, recovered=True)
    one = history(2, Subscribed("laptop", seen=seen(1, 2), open=True), liar)
    one.fates_known = True
    assert judge(one).unsignalled_gaps == (not may_pass)
    liar.recovered, liar.seen = False, seen(2, recovered=False)
    assert judge(one).ok


def test_in_mode_auto_the_promise_ends_when_tcp_has_acknowledged() -> None:
    one = history(1, Subscribed("phone"), Subscribed("phone", open=True))
    assert judge(one).lost == 1
    one.subscriptions[0].unread.add(at(1))
    assert judge(one).ok


def test_what_waits_for_an_offline_user_is_stored() -> None:
    report = judge(history(2, Subscribed("phone", seen=seen(1))))
    assert report.ok
    assert report.stored == 1


def test_a_duplicate_is_counted_and_allowed() -> None:
    old = Subscribed("phone", seen=seen(1, 2))
    new = Subscribed("phone", seen=[*seen(2, redelivered=True), *seen(3)], open=True)
    report = judge(history(3, old, new))
    assert report.ok
    assert (report.duplicated, report.unmarked) == (1, 0)


def test_a_duplicate_without_its_mark_is_counted() -> None:
    report = judge(history(1, Subscribed("phone", seen=seen(1)), Subscribed("phone", seen=seen(1), open=True)))
    assert (report.duplicated, report.unmarked) == (1, 1)


def test_a_duplicate_without_its_mark_is_an_offence_when_redis_knew_before_the_subscribe() -> None:
    old = Subscribed("phone", seen=seen(1, 2))
    new = Subscribed("phone", asked_at=5.0, seen=seen(2), open=True)
    one = history(2, old, new)
    for noted, offences in (((4.0, at(1)), 0), ((6.0, at(2)), 0), ((4.0, at(2)), 1)):
        one.noted = [noted]
        report = judge(one)
        assert (report.wrongly_unmarked, report.ok) == (offences, not offences)
    new.seen = seen(2, redelivered=True)
    assert judge(one).ok


def test_what_its_own_session_has_seen_needs_a_mark_unless_redis_lost_something() -> None:
    one = history(1, Subscribed("phone", session="c1", seen=seen(1)), Subscribed("phone", session="c1", seen=seen(1)))
    assert judge(one).ok
    one.lossless = True
    assert judge(one).wrongly_unmarked == 1
    one.subscriptions[1].session = "c2"
    assert judge(one).ok, "another connection may stand before the first one's gateway has told Redis"


def test_what_another_device_has_seen_needs_no_mark() -> None:
    one = history(1, Subscribed("phone", seen=seen(1)), Subscribed("laptop", asked_at=5.0, seen=seen(1), open=True))
    one.noted = [(4.0, at(1))]
    assert judge(one).ok


def test_a_gap_that_is_told_where_nothing_is_missing_is_an_offence() -> None:
    old = Subscribed("phone", seen=seen(1, 2))
    new = Subscribed("phone", last_message_id=at(2), seen=seen(3, recovered=False), open=True)
    one = history(3, old, new)
    assert judge(one).ok, "who knows what was in the log before"
    one.fates_known = True
    report = judge(one)
    assert (report.needless_gaps, report.ok) == (1, False)


def test_a_receipt_that_tells_a_gap_where_nothing_is_missing_is_an_offence() -> None:
    old = Subscribed("phone", seen=seen(1, 2))
    new = Subscribed("phone", last_message_id=at(2), recovered=False, open=True)
    one = history(2, old, new)
    one.fates_known = True
    assert judge(one).needless_gaps == 1


def test_a_gap_that_is_told_where_an_entry_has_left_the_log_is_not_needless() -> None:
    old = Subscribed("phone", seen=seen(1))
    new = Subscribed("phone", last_message_id=at(1), seen=seen(3, recovered=False), open=True)
    for fate in (Fate.LIMITS, Fate.WINDOW):
        one = history(3, old, new)
        one.fates_known = True
        one.log[1].fate = fate
        assert judge(one).needless_gaps == 0
    one.log[1].fate, one.log[0].fate = Fate.KEPT, Fate.WINDOW
    assert judge(one).needless_gaps == 1


def test_the_same_message_twice_in_one_subscription_is_out_of_order() -> None:
    assert judge(history(2, Subscribed("phone", seen=seen(1, 2, 1), open=True))).reordered == 1


def test_a_later_message_first_is_out_of_order() -> None:
    assert judge(history(3, Subscribed("phone", seen=seen(1, 3, 2), open=True))).reordered == 2, "by id and by place"


def test_a_log_in_another_order_than_the_publisher_s_is_out_of_order() -> None:
    one = history(2, Subscribed("phone", seen=[Seen(at(1), "m2"), Seen(at(2), "m1")], open=True))
    one.log = [Entry(at(1), "m2"), Entry(at(2), "m1")]
    assert judge(one).reordered == 2, "in the log and at the client"


def test_a_message_that_nobody_published_is_unexpected() -> None:
    assert judge(history(1, Subscribed("phone", seen=[*seen(1), Seen(at(2), "?")], open=True))).unexpected == 1


def doubled(marks: tuple[bool, ...] = (False, True), /, **facts: Any) -> History:
    """Return a message's history that stands in the log twice, with these marks: appended at the seconds 3 and 5."""
    one = history(1, Subscribed("phone", seen=[Seen(at(1), "m1"), Seen(at(2), "m1")], open=True))
    one.attempts = [Attempt("m1", 1.0, confirmed=True, **facts)]
    one.log = [Entry(at(n), "m1", appended_at=1.0 + 2 * n, marked=mark) for n, mark in enumerate(marks, 1)]
    return one


def test_one_message_under_two_ids_is_an_offence() -> None:
    for one in (doubled(), doubled(identified=False)):
        report = judge(one)
        assert (report.under_two_ids, report.repeated, report.ok) == (1, 0, False)


@pytest.mark.parametrize("why", ["returned_at", "published_again_at"])
@pytest.mark.parametrize("at_s", [2.0, 4.0])
def test_a_message_without_an_id_that_came_to_a_dispatcher_again_may_stand_under_two_ids(why: str, at_s: float) -> None:
    """Also when it came again before it was appended first: bytes of the lost connection may have arrived late."""
    report = judge(doubled(identified=False, **{why: [at_s]}))
    assert (report.under_two_ids, report.repeated, report.ok) == (0, 1, True)


def test_what_comes_again_later_excuses_nothing() -> None:
    assert judge(doubled(identified=False, returned_at=[6.0])).under_two_ids == 1


def test_each_repeat_needs_a_return_of_its_own() -> None:
    one = doubled(identified=False, returned_at=[4.0])
    one.log.append(Entry(at(3), "m1", appended_at=5.5, marked=True))
    assert judge(one).under_two_ids == 1


@pytest.mark.parametrize("marks", [(False, False), (True, False)])
def test_a_message_that_came_back_says_that_it_may_be_a_repetition(marks: tuple[bool, ...]) -> None:
    """The second: its first delivery was appended behind a later one, so bytes went past the fence."""
    one = doubled(marks, identified=False, returned_at=[2.0])
    report = judge(one)
    assert (report.repeated, report.repeated_unmarked, report.under_two_ids, report.ok) == (1, 1, 0, False)
    assert "1002-2 does not say that it may repeat 'm1'" in report.examples["repeated_unmarked"][0]
    one.log[1].marked = True
    assert judge(one).ok


def test_what_its_publisher_sends_again_says_nothing_for_each_of_its_publishes_once() -> None:
    for marks, publishes in (((False, False), [4.0]), ((True, False), [4.0]), ((False, True, False), [4.0])):
        report = judge(doubled(marks, identified=False, returned_at=[2.0], published_again_at=publishes))
        assert (report.repeated, report.ok) == (len(marks) - 1, True)
    more = doubled((False, False, False), identified=False, returned_at=[2.0], published_again_at=[4.0])
    assert judge(more).repeated_unmarked == 1
    late = doubled((False, False), identified=False, returned_at=[2.0], published_again_at=[6.0])
    assert judge(late).repeated_unmarked == 1, "it was sent again after that"


@pytest.mark.parametrize(("emptied_at", "offences"), [(0.5, 1), (1.5, 0), (2.5, 0), (4.0, 1)])
def test_a_redis_that_was_emptied_of_the_fence_before_a_message_was_repeated_is_no_offence(
    emptied_at: float, offences: int
) -> None:
    """The fence was raised at the second 1. The message was appended at 3 with a lower one and, late, at 5."""
    one = doubled((True, False), identified=False, returned_at=[2.0])
    one.log[0].term, one.log[1].term = 2, 1
    one.log[1].fenced_at, one.emptied_at = 1.0, [emptied_at]
    one.attempts[0].attempted_at = 2.8  # it may come once Redis is empty, to who has raised the fence before
    report = judge(one)
    assert (report.repeated_unmarked, report.stale) == (offences, offences)
    one.log[1].fenced_at = None
    assert judge(one).repeated_unmarked == 1, "who has not raised the fence has lost none"


def test_what_comes_back_after_redis_lost_it_need_not_say_so() -> None:
    """Its dispatcher makes the same attempt again, or its fence is lost with it."""
    for lost in ({"fate": Fate.VANISHED}, {"forgotten": True}):
        one = doubled((False, False), identified=False, returned_at=[4.0])
        one.log[0] = Entry(at(1), "m1", appended_at=3.0, **lost)
        assert judge(one).repeated_unmarked == 0


def test_a_message_with_an_id_stands_under_one_id_while_redis_knows_it() -> None:
    one = doubled(returned_at=[4.0], published_again_at=[4.0])
    assert judge(one).under_two_ids == 1
    one.log[0].id_expired, one.log[1].marked = True, False
    one.attempts[0].published_again_at = []
    assert judge(one).ok, "what has an id is never marked"
    one.attempts[0].returned_at = []
    assert judge(one).under_two_ids == 1, "an id may expire, but the message came to one dispatcher alone"


def test_who_has_forgotten_a_log_cannot_know_what_stood_in_it() -> None:
    one = doubled()
    one.log[0].forgotten = True
    assert judge(one).under_two_ids == 0


def test_a_repeat_is_not_out_of_order_for_who_sees_it_first() -> None:
    one = history(2, Subscribed("phone", seen=[Seen(at(2), "m2"), Seen(at(3), "m1"), Seen(at(4), "m2")], open=True))
    one.attempts = [Attempt(f"m{n}", float(n), confirmed=True, identified=False, returned_at=[4.0]) for n in (1, 2)]
    one.log += [Entry(at(n + 2), f"m{n}", appended_at=5.0, marked=True) for n in (1, 2)]
    report = judge(one)
    assert (report.repeated, report.reordered, report.ok) == (2, 0, True)


def test_a_dispatcher_that_appends_behind_its_successor_is_an_offence() -> None:
    one = history(3, Subscribed("phone", seen=seen(1, 2, 3), open=True))
    for entry, term in zip(one.log, (1, 1, 2), strict=True):
        entry.term = term
    assert judge(one).ok
    one.log[2].term, one.log[1].term = 1, 2
    assert (judge(one).stale, judge(one).ok) == (1, False)


def test_a_message_may_come_under_another_id_when_redis_lost_the_first_one() -> None:
    one = history(1, Subscribed("phone", seen=[Seen(at(1), "m1"), Seen(at(2), "m1")], open=True))
    one.log = [Entry(at(1), "m1", Fate.VANISHED), Entry(at(2), "m1")]
    report = judge(one)
    assert report.ok
    assert (report.duplicated, report.renumbered) == (1, 1)


def test_what_was_seen_of_a_log_that_redis_lost_comes_before_all_that_is_appended_anew() -> None:
    frames = [Seen(at(2), "m2"), Seen(at(3), "m1", recovered=False), Seen(at(4), "m2")]
    one = history(2, Subscribed("phone", seen=frames, open=True))
    one.log = [Entry(at(1), "m1"), Entry(at(2), "m2"), Entry(at(3), "m1"), Entry(at(4), "m2")]
    assert judge(one).reordered == 1, "nothing was lost"
    one.log[0].fate = one.log[1].fate = Fate.VANISHED
    assert judge(one).reordered == 0


def test_a_trimmed_message_is_a_gap_that_has_to_be_told() -> None:
    phone = Subscribed("phone", seen=seen(1, 3), open=True)
    one = history(3, phone)
    one.log[1].fate = Fate.LIMITS
    assert judge(one).unsignalled_gaps == 1
    phone.seen[1] = Seen(at(3), "m3", recovered=False)
    report = judge(one)
    assert report.ok
    assert (report.signalled_gaps, report.dropped) == (1, 1)


def test_what_the_limits_took_from_a_log_that_was_then_emptied_is_no_silent_gap_for_who_saw_nothing_of_it() -> None:
    phone = Subscribed("phone", subscribed_at=0.0, seen=seen(3), open=True)
    one = history(3, phone)
    one.log[0].fate, one.log[1].fate = Fate.LIMITS, Fate.WIPED
    assert judge(one).ok
    phone.seen = seen(2, 3)
    assert judge(one).unsignalled_gaps == 1, "it had got what followed, and was told nothing"
    one.log[1].fate, phone.seen = Fate.KEPT, seen(3)
    assert judge(one).unsignalled_gaps == 1


def test_the_receipt_may_tell_of_a_gap_before_the_first_message() -> None:
    new = Subscribed("phone", last_message_id=at(1), recovered=False, seen=seen(3, recovered=False), open=True)
    one = history(3, Subscribed("phone", seen=seen(1)), new)
    one.log[1].fate = Fate.LIMITS
    assert judge(one).ok


def test_a_message_trimmed_as_delivered_that_nobody_got_is_lost() -> None:
    one = history(2, Subscribed("phone", seen=seen(2), open=True))
    one.log[0].fate = Fate.WINDOW
    assert judge(one).lost == 1


def test_an_open_session_that_another_one_has_outrun_is_counted() -> None:
    phone = Subscribed("phone", subscribed_at=0.0, seen=seen(1, 2), open=True)
    laptop = Subscribed("laptop", subscribed_at=0.0, seen=[Seen(at(2), "m2", recovered=False)], open=True)
    one = history(2, phone, laptop)
    one.log[0].fate = Fate.WINDOW
    report = judge(one)
    assert report.ok
    assert report.outrun == 1


def test_an_open_session_that_was_outrun_at_its_very_end_is_told_with_the_next_message() -> None:
    laptop = Subscribed("laptop", subscribed_at=0.0, seen=seen(1), open=True)
    one = history(3, Subscribed("phone", subscribed_at=0.0, seen=seen(1, 2, 3), open=True), laptop)
    one.log[1].fate = one.log[2].fate = Fate.WINDOW
    report = judge(one)
    assert (report.ok, report.outrun) == (True, 2)
    laptop.seen = seen(1, 3)
    assert judge(one).unsignalled_gaps == 1


def test_an_expired_message_is_no_gap() -> None:
    one = history(3, Subscribed("phone", seen=seen(1, 3), open=True))
    one.attempts[1].expires = True
    assert judge(one).ok


def test_a_rejected_message_is_not_lost() -> None:
    one = history(1, Subscribed("phone", open=True))
    one.log.clear()
    one.rejected.add("m1")
    assert judge(one).ok


def test_every_offence_is_counted_and_the_first_examples_are_kept() -> None:
    one = history(50, Subscribed("phone", open=True))
    one.log.clear()
    report = judge(one)
    assert report.lost == 50
    assert len(report.examples["lost"]) == MAX_EXAMPLES
    assert "lost=50" in report.describe()
