import asyncio

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES
from pushcluster_contract.outcomes import MessageOutcome, ReplyAddress
from pushcluster_dispatcher.ingress import batches
from pushcluster_dispatcher.ingress.prefetch import MAX_HELD_BYTES, MESSAGE_OVERHEAD_BYTES, plan_prefetch
from pushcluster_dispatcher.ingress.time_limit import OLD_PART
from pushcluster_dispatcher.log.entries import Appended, AppendRefused, StaleToken
from pushcluster_dispatcher.messages import Message
from pushcluster_dispatcher.settings import CONSUMER_TIMEOUT_S
from pushcluster_runtime.amqp import Delivery
from tests.support.clock import moved_clock
from tests.support.waiting import eventually, settle
from tests.unit.dispatcher.ingress.partition_bench import NOW_MS, running


async def test_a_message_is_acknowledged_after_append_copy_and_barrier_and_not_before() -> None:
    async with running() as bench:
        bench.deliver(b"1")
        await eventually(lambda: bench.barriers, within_s=2)
        await settle()
        assert bench.channel.acks == []
        bench.confirm_all()
        await settle()
        assert bench.channel.acks == []
        bench.barriers[0].set_result(None)
        await eventually(lambda: bench.channel.acks == [1], within_s=2)


async def test_a_barrier_alone_acknowledges_nothing() -> None:
    async with running() as bench:
        bench.deliver(b"1")
        await eventually(lambda: bench.barriers, within_s=2)
        bench.barriers[0].set_result(None)
        await settle()
        assert bench.channel.acks == []


async def test_what_is_appended_while_redis_is_full_is_sent_and_not_acknowledged() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        bench.log.part, bench.log.refuses = 2, {b"2"}
        bench.deliver(b"1", b"2", b"3")
        await settle()
        assert bench.copies.sent == [b"1"]
        bench.confirm_all()
        await settle()
        assert (bench.barriers, bench.channel.acks) == ([], [])
        bench.log.may_answer.set()
        await settle()
        assert bench.copies.sent == [b"1", b"3"]
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await settle()
        assert bench.channel.acks == [3]


async def test_of_equal_messages_each_is_sent_once_although_redis_took_one_of_them_first() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        bench.log.part = 1
        bench.deliver(b"same", b"same")
        await settle()
        assert bench.copies.sent == [b"same"]
        bench.log.may_answer.set()
        await settle()
        assert bench.copies.sent == [b"same", b"same"]


async def test_a_copy_sent_before_the_rest_is_waited_for_like_the_rest() -> None:
    async with running() as bench:
        bench.log.part = 1
        bench.deliver(b"1", b"2")
        await settle()
        bench.barriers[0].set_result(None)
        first, rest = bench.copies.open
        rest.set_result(None)
        await settle()
        assert bench.channel.acks == []
        first.set_result(None)
        await settle()
        assert bench.channel.acks == [2]


async def test_ids_of_what_is_under_way_are_kept_until_it_is_acknowledged() -> None:
    with moved_clock() as clock:
        async with running(ids_window_s=20) as bench:

            async def kept_next() -> list[str]:
                bench.log.kept.clear()
                await clock.move(5)
                (ids,) = bench.log.kept
                return ids

            bench.log.may_answer.clear()
            bench.deliver(b"1", message_id="appending")
            await settle()
            bench.deliver(b"2", message_id="waiting")
            for _ in range(3):
                assert await kept_next() == ["appending", "waiting"]
            bench.log.may_answer.set()
            await settle()
            assert await kept_next() == ["appending", "waiting"]
            bench.confirm_all()
            bench.barriers[0].set_result(None)
            await settle()
            assert await kept_next() == ["waiting"]
            bench.barriers[1].set_result(None)
            await settle()
            assert await kept_next() == []
            assert bench.channel.acks == [1, 2]


async def test_a_malformed_message_that_waits_has_no_id_to_keep() -> None:
    with moved_clock() as clock:
        async with running(ids_window_s=20) as bench:
            bench.log.may_answer.clear()
            bench.deliver(b"1", message_id="appending")
            await settle()
            bench.deliver(b"2", headers={}, message_id="malformed")
            for times in (1, 2):
                await clock.move(5)
                assert bench.log.kept == [["appending"]] * times


@pytest.mark.parametrize(("window_s", "every_s"), [(20, 5), (600, 10)])
async def test_ids_are_kept_four_times_a_window_and_at_least_every_ten_seconds(window_s: float, every_s: float) -> None:
    with moved_clock() as clock:
        async with running(ids_window_s=window_s) as bench:
            bench.deliver(b"1")
            await clock.move(0)
            for times in (1, 2, 3):
                await clock.move(every_s - 1)
                assert len(bench.log.kept) == times - 1
                await clock.move(1)
                assert len(bench.log.kept) == times


async def test_ids_are_kept_on_after_a_failure_and_no_longer_than_the_session() -> None:
    with moved_clock() as clock:
        async with running(ids_window_s=20) as bench:
            bench.log.keeps = False
            bench.log.may_answer.clear()
            bench.deliver(b"1", message_id="id")
            await settle()
            for _ in range(3):
                await clock.move(5)
            assert len(bench.log.kept) == 3
            bench.log.error = StaleToken("Redis: STALE")
            bench.log.may_answer.set()
            await settle()
            assert bench.task.done()
            await clock.move(5)
            assert len(bench.log.kept) == 3


async def test_the_barrier_is_asked_for_only_after_the_append_was_answered() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        bench.deliver(b"1")
        await eventually(lambda: bench.log.batches, within_s=2)
        await settle()
        assert bench.barriers == []
        bench.log.may_answer.set()
        await eventually(lambda: bench.barriers, within_s=2)


async def test_the_next_batch_waits_for_the_answer_but_not_for_copies_and_barrier() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        bench.deliver(b"1")
        await eventually(lambda: len(bench.log.batches) == 1, within_s=2)
        bench.deliver(b"2", b"3")
        await settle()
        assert len(bench.log.batches) == 1
        bench.log.may_answer.set()
        await eventually(lambda: len(bench.log.batches) == 2, within_s=2)
        assert [message.body for message in bench.log.batches[1]] == [b"2", b"3"]
        await eventually(lambda: len(bench.barriers) == 2, within_s=2)
        assert bench.channel.acks == []


async def test_a_later_barrier_does_not_acknowledge_an_earlier_batch() -> None:
    async with running() as bench:
        bench.deliver(b"1")
        await eventually(lambda: len(bench.barriers) == 1, within_s=2)
        bench.deliver(b"2")
        await eventually(lambda: len(bench.barriers) == 2, within_s=2)
        bench.confirm_all()
        bench.barriers[1].set_result(None)
        await settle()
        assert bench.channel.acks == []
        bench.barriers[0].set_result(None)
        await eventually(lambda: bench.channel.acks == [2], within_s=2)


async def test_all_that_is_complete_in_one_turn_of_the_loop_is_acknowledged_at_once() -> None:
    async with running() as bench:
        for body in (b"1", b"2", b"3", b"4"):
            bench.deliver(body)
            await settle()
        bench.confirm_all()
        await settle()
        for barrier in bench.barriers[:3]:
            barrier.set_result(None)
        await settle()
        assert bench.channel.acks == [3]


async def test_a_batch_waits_for_the_barrier_of_others_when_nobody_waits_for_it() -> None:
    async with running() as bench:
        bench.deliver(b"1", reply_to="q")  # its gateways tell
        await settle()
        bench.deliver(b"2")
        await settle()
        assert bench.urgent == [False, False]


@pytest.mark.parametrize("why", ["told", "rejected", "malformed"])
async def test_a_batch_is_urgent_that_a_producer_hears_of_or_that_is_put_aside(why: str) -> None:
    async with running() as bench:
        bench.log.sessions = b"" if why == "told" else bench.log.sessions
        bench.log.refuses = {b"2"} if why == "rejected" else set()
        bench.deliver(b"1")
        await settle()
        bench.deliver(b"2", reply_to="q", headers={} if why == "malformed" else None)
        await settle()
        assert bench.urgent == [False, True]


async def test_a_quarter_of_the_prefetch_is_urgent() -> None:
    async with running() as bench:
        for _ in range(DISPATCHER_PREFETCH_MESSAGES // 4 - 1):
            bench.deliver(b"1")
        await settle()
        bench.deliver(b"2")
        await settle()
        assert bench.urgent == [False, True]


async def test_a_quarter_of_the_bytes_is_urgent() -> None:
    async with running() as bench:
        for _ in range(2):
            bench.deliver(*[b"x" * 65_536] * 4)
            await settle()
        assert bench.urgent == [False, True]


async def test_what_is_behind_an_old_message_is_urgent() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            bench.deliver(b"1")
            await settle()
            await clock.move(CONSUMER_TIMEOUT_S * OLD_PART)
            bench.deliver(b"2")
            await settle()
            assert bench.urgent == [False, True]


@pytest.mark.parametrize("ends", ["finishing", "another prefetch"])
async def test_a_session_that_ends_asks_for_its_last_barrier_at_once(ends: str) -> None:
    async with running() as bench:
        bench.deliver(b"1")
        await settle()
        assert bench.urgent == [False]
        if ends == "finishing":
            bench.session.finish()
        else:
            bench.deliver(b"x" * MAX_HELD_BYTES)
            assert bench.session.wanted_prefetch is not None
        await settle()
        assert bench.urgent == [False, True]
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await asyncio.wait_for(bench.task, 2)
        assert bench.channel.acks == [1]


async def test_a_session_that_holds_nothing_ends_without_a_barrier() -> None:
    async with running() as bench:
        bench.deliver(b"1")
        await settle()
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await settle()
        bench.session.finish()
        await asyncio.wait_for(bench.task, 2)
        assert len(bench.barriers) == 1


@pytest.mark.parametrize("channel_is_lost", [False, True])
async def test_what_is_complete_when_a_session_is_cut_short_is_acknowledged(channel_is_lost: bool) -> None:
    async with running() as bench:
        bench.deliver(b"1")
        await settle()
        bench.confirm_all()
        await settle()
        bench.channel.is_lost = channel_is_lost
        bench.barriers[0].set_result(None)
        bench.task.cancel()  # it ends in the turn in which the batch is marked
        await settle()
        assert bench.channel.acks == ([] if channel_is_lost else [1])
        assert bench.task.cancelled()


async def test_a_session_without_a_channel_ends_when_it_cannot_acknowledge() -> None:
    async with running() as bench:
        bench.channel.is_lost = True
        bench.deliver(b"1")
        await settle()
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(bench.task, 2)
        assert raised.group_contains(Unavailable, match="channel", depth=2)


async def test_a_malformed_message_is_acknowledged_after_push_rejected_took_it() -> None:
    async with running() as bench:
        bench.deliver(b"1", headers={})
        await eventually(lambda: bench.barriers, within_s=2)
        bench.barriers[0].set_result(None)
        for future in bench.copies.open:
            future.set_result(None)
        await settle()
        ((body, reason),) = bench.rejects.put_aside
        assert body == b"1"
        assert "missing" in reason
        assert bench.channel.acks == []
        assert bench.log.batches == []
        bench.confirm_all()
        await eventually(lambda: bench.channel.acks == [1], within_s=2)


async def test_a_malformed_message_that_push_rejected_does_not_take_breaks_the_session() -> None:
    async with running() as bench:
        bench.rejects.refuses = True
        bench.deliver(b"1", headers={})
        await eventually(lambda: bench.rejects.put_aside, within_s=2)
        bench.confirm_all()
        with pytest.raises(ExceptionGroup) as raised:
            await bench.task
        assert raised.group_contains(Unavailable, match="does not take")
        assert bench.channel.acks == []


async def test_a_message_that_redis_refuses_goes_to_push_rejected_and_the_others_go_on() -> None:
    async with running() as bench:
        bench.log.refuses = {b"2"}
        bench.deliver(b"1", b"2", b"3")
        await eventually(lambda: bench.rejects.put_aside, within_s=2)
        assert bench.rejects.put_aside == [(b"2", "Redis: ERR")]
        assert bench.copies.sent == [b"1", b"3"]
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await eventually(lambda: bench.channel.acks == [3], within_s=2)
        assert bench.metrics.rejected.labels("script")._value.get() == 1


async def test_a_message_on_which_the_program_itself_fails_is_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Delivery) -> Message:
        raise KeyError("a bug")

    monkeypatch.setattr(batches, "parse_delivery", fail)
    async with running() as bench:
        bench.deliver(b"1")
        await eventually(lambda: bench.rejects.put_aside, within_s=2)
        assert "the dispatcher failed on it: KeyError" in bench.rejects.put_aside[0][1]


async def test_finishing_takes_no_new_batch_and_waits_for_what_has_begun() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        bench.deliver(b"1")
        await eventually(lambda: bench.log.batches, within_s=2)
        bench.deliver(b"2")
        bench.session.finish()
        bench.log.may_answer.set()
        await eventually(lambda: bench.barriers, within_s=2)
        bench.confirm_all()
        await settle()
        assert not bench.task.done()
        bench.barriers[0].set_result(None)
        await asyncio.wait_for(bench.task, 2)
        assert bench.channel.acks == [1]
        assert len(bench.log.batches) == 1


async def test_an_idle_session_finishes_at_once() -> None:
    async with running() as bench:
        await settle()
        bench.session.finish()
        await asyncio.wait_for(bench.task, 2)


async def test_beyond_its_limit_of_bytes_a_session_ends_and_says_which_prefetch_would_fit() -> None:
    async with running() as bench:
        body = b"x" * 65_536
        fitting = MAX_HELD_BYTES // (len(body) + MESSAGE_OVERHEAD_BYTES)
        bench.deliver(*[body] * (fitting + 3))
        await eventually(lambda: bench.barriers, within_s=2)
        bench.confirm_all()
        await settle()
        assert not bench.task.done()
        bench.barriers[0].set_result(None)
        await asyncio.wait_for(bench.task, 2)
        assert bench.channel.acks == [fitting]
        assert sum(map(len, bench.log.batches)) == fitting
        assert bench.session.wanted_prefetch == plan_prefetch(len(body) + MESSAGE_OVERHEAD_BYTES)


async def test_what_is_acknowledged_makes_room_for_more() -> None:
    async with running() as bench:
        body = b"x" * 65_536
        fitting = MAX_HELD_BYTES // (len(body) + MESSAGE_OVERHEAD_BYTES)
        for _ in range(3):
            bench.deliver(*[body] * fitting)
            await settle()
            bench.confirm_all()
            bench.barriers[-1].set_result(None)
            await eventually(lambda: bench.channel.acks[-1:] == [bench.delivered], within_s=2)
        assert bench.session.wanted_prefetch is None


async def test_what_happened_is_counted() -> None:
    async with running() as bench:
        bench.deliver(b"1", b"2")
        bench.deliver(b"3", headers={})
        await eventually(lambda: bench.barriers, within_s=2)
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await eventually(lambda: bench.channel.acks == [3], within_s=2)
        assert [bench.count(name) for name in ("received", "appended", "acknowledged")] == [3, 2, 3]
        assert bench.count("rejected", reason="destination") == 1


async def test_what_the_log_says_of_messages_is_counted() -> None:
    async with running() as bench:
        bench.log.answers = {
            b"new": Appended(b"1-1", False, 2, b"", 0),
            b"again": Appended(b"1-1", True, 0, b"", 0),
            b"other": AppendRefused("another message", other_body=True),
        }
        bench.deliver(b"new", b"again", b"other")
        await eventually(lambda: bench.barriers, within_s=2)
        counted = {name: bench.count(name) for name in ("received", "appended", "duplicates", "dropped_undelivered")}
        assert counted == {"received": 3, "appended": 1, "duplicates": 1, "dropped_undelivered": 2}
        assert bench.count("rejected", reason="message_id") == 1


async def test_how_long_appends_take_and_how_large_batches_are_is_measured() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            bench.log.may_answer.clear()
            bench.deliver(b"1", b"2")
            await settle()
            await clock.move(3)
            bench.log.may_answer.set()
            await settle()
            sample = bench.metrics.registry.get_sample_value
            assert sample("pushcluster_dispatcher_append_seconds_sum") == 3
            assert sample("pushcluster_dispatcher_batch_messages_sum") == 2


async def test_acknowledgements_are_counted_once_each() -> None:
    async with running() as bench:
        for tag in (1, 2, 3):
            bench.deliver(b"x")
            await settle()
            bench.confirm_all()
            bench.barriers[-1].set_result(None)
            await settle()
            assert bench.count("acknowledged") == tag


async def test_properties_count_to_the_bytes_that_a_session_holds() -> None:
    async with running() as bench:
        for tag in (1, 2):
            bench.session.receive(Delivery(tag, "push", "alice", False, b"\0" * (MAX_HELD_BYTES // 2), b"", "c"))
        await settle()
        assert bench.session.wanted_prefetch is not None


async def test_a_known_message_that_is_too_old_by_now_is_told_to_have_expired() -> None:
    async with running() as bench:
        bench.log.answers = {b"old": Appended(b"1-1", True, 0, b"", NOW_MS - 1, (b"", b""))}
        bench.deliver(b"old", reply_to="q")
        await eventually(lambda: bench.barriers, within_s=2)
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await eventually(lambda: bench.told, within_s=2)
        assert [report.outcome for _, report in bench.told] == [MessageOutcome.EXPIRED]


async def test_a_producer_is_told_of_a_rejection_only_once_the_message_is_put_aside() -> None:
    async with running() as bench:
        bench.deliver(b"1", headers={}, reply_to="q", correlation_id="c1", message_id="m1")
        await settle()
        assert bench.told == []
        bench.confirm_all()
        await eventually(lambda: bench.told, within_s=2)
        ((address, report),) = bench.told
        assert address == ReplyAddress("q", "c1")
        assert (report.outcome, report.producer_message_id) == (MessageOutcome.REJECTED, "m1")
        assert "destination" in report.reason


async def test_a_producer_is_told_that_a_message_is_stored_only_once_it_is_on_disk() -> None:
    async with running() as bench:
        bench.log.sessions = b""
        bench.deliver(b"1", reply_to="q", correlation_id="c1")
        bench.deliver(b"2")
        await eventually(lambda: bench.barriers, within_s=2)
        bench.confirm_all()
        await settle()
        assert bench.told == []
        bench.barriers[0].set_result(None)
        await eventually(lambda: bench.told, within_s=2)
        ((address, report),) = bench.told
        assert (address, report.outcome, report.message_id) == (ReplyAddress("q", "c1"), MessageOutcome.STORED, "1-1")


async def test_what_sessions_get_is_told_of_by_their_gateways() -> None:
    async with running() as bench:
        bench.deliver(b"1", reply_to="q")
        await eventually(lambda: bench.barriers, within_s=2)
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await eventually(lambda: bench.channel.acks == [1], within_s=2)
        await settle()
        assert bench.told == []
