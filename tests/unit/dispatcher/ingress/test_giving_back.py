"""A partition session gives its messages back in time, and acknowledges what is safe by then."""

import asyncio

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.outcomes import MessageOutcome, ReplyAddress
from pushcluster_dispatcher.ingress.time_limit import GIVE_BACK_PART, GIVE_BACK_WITHIN_S, LATEST_PART, HeldTooLong
from pushcluster_dispatcher.settings import CONSUMER_TIMEOUT_S
from pushcluster_runtime.tasks import cancel
from tests.support.clock import MovedClock, moved_clock
from tests.support.waiting import settle
from tests.unit.dispatcher.ingress.partition_bench import Bench, running

HALF_S = CONSUMER_TIMEOUT_S * GIVE_BACK_PART


async def begin_giving_back(bench: Bench, clock: MovedClock) -> asyncio.Task[int]:
    """Let Redis refuse the rest of a batch once more at half of the limit, which ends the session."""
    await clock.move(HALF_S)
    bench.log.refused_again.set()
    with pytest.raises(ExceptionGroup):
        await bench.task
    return asyncio.create_task(bench.session.give_back())


async def test_a_message_that_redis_does_not_take_is_given_back_at_half_of_the_limit_when_redis_has_answered() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            bench.log.may_answer.clear()
            bench.deliver(b"1", b"2")
            await settle()
            overdue = asyncio.create_task(bench.session.wait_held_too_long())
            await clock.move(HALF_S - 1)
            bench.log.refused_again.set()
            await settle()
            assert not bench.task.done()
            await clock.move(1)
            assert not overdue.done(), "an append is under way"
            assert not bench.task.done()
            bench.log.refused_again.set()
            with pytest.raises(ExceptionGroup) as raised:
                await bench.task
            assert raised.group_contains(HeldTooLong)
            assert await bench.session.give_back() == 2
            assert (bench.channel.acks, bench.channel.apart) == ([], [])
            await cancel(overdue)


async def test_what_redis_has_taken_of_a_batch_is_acknowledged_on_disk_before_the_rest_is_given_back() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            bench.log.may_answer.clear()
            bench.log.part, bench.log.refuses = 3, {b"2"}
            bench.deliver(b"1", b"2", b"3", b"4", b"5")
            await settle()
            giving_back = await begin_giving_back(bench, clock)
            await settle()
            bench.confirm_all()
            await settle()
            assert bench.channel.apart == []
            bench.barriers[0].set_result(None)
            assert await giving_back == 3
            assert (bench.channel.acks, bench.channel.apart) == ([], [1, 3])
            assert (bench.count("acknowledged"), bench.count("appended")) == (2, 2)


async def test_a_batch_in_the_logs_is_acknowledged_when_it_is_on_disk_although_the_session_has_ended() -> None:
    """It would be appended a second time. The next batch may end the session while the barrier is under way."""
    with moved_clock() as clock:
        async with running() as bench:
            bench.rejects.taken.set()
            bench.log.refuses = {b"2"}
            bench.deliver(b"1", b"2")
            await settle()
            bench.log.may_answer.clear()
            bench.deliver(b"3")
            await settle()
            giving_back = await begin_giving_back(bench, clock)
            await settle()
            bench.confirm_all()
            await settle()
            assert bench.channel.apart == []
            bench.barriers[-1].set_result(None)
            assert await giving_back == 1
            assert sorted(bench.channel.apart) == [1, 2]


async def test_of_what_redis_has_taken_the_producer_learns_when_it_is_on_disk() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            bench.log.may_answer.clear()
            bench.log.part, bench.log.sessions = 1, b""
            bench.deliver(b"1", b"2", reply_to="replies", correlation_id="c1")
            await settle()
            giving_back = await begin_giving_back(bench, clock)
            bench.confirm_all()
            await settle()
            assert bench.told == []
            bench.barriers[0].set_result(None)
            assert await giving_back == 1
            ((address, report),) = bench.told
            assert (address, report.outcome) == (ReplyAddress("replies", "c1"), MessageOutcome.STORED)


@pytest.mark.parametrize("ends", ["fails", "is cancelled", "lasts"])
async def test_what_is_not_known_to_be_on_disk_goes_back_with_the_rest(ends: str) -> None:
    with moved_clock() as clock:
        async with running() as bench:
            bench.log.may_answer.clear()
            bench.log.part = 1
            bench.deliver(b"1", b"2")
            await settle()
            await cancel(bench.task)
            bench.confirm_all()
            giving_back = asyncio.create_task(bench.session.give_back())
            await settle()
            (barrier,) = bench.barriers
            match ends:
                case "fails":
                    barrier.set_exception(Unavailable("restarted"))
                case "is cancelled":
                    barrier.cancel()
                case "lasts":
                    await clock.move(GIVE_BACK_WITHIN_S)
                    assert not barrier.cancelled(), "others may wait for it too"
            assert await giving_back == 2
            assert bench.channel.apart == []


async def test_nothing_of_an_append_that_failed_is_known_to_be_on_disk() -> None:
    async with running() as bench:
        await settle()
        bench.log.part, bench.log.error = 1, Unavailable("Redis: no reply within 5 s")
        bench.logs.is_there.clear()
        bench.deliver(b"1", b"2")
        await settle()
        assert bench.copies.sent == [b"1"]
        await cancel(bench.task)
        assert await bench.session.give_back() == 2
        assert (bench.barriers, bench.channel.apart) == ([], [])


async def test_what_is_done_behind_something_undone_is_acknowledged_when_that_is_given_back() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            overdue = asyncio.create_task(bench.session.wait_held_too_long())
            bench.deliver(b"malformed", headers={})
            await settle()
            bench.deliver(b"2", b"3")
            await settle()
            for barrier in bench.barriers:
                barrier.set_result(None)
            for copied in bench.copies.open:
                copied.set_result(None)
            await clock.move(HALF_S)
            assert overdue.done()
            assert (bench.channel.acks, bench.channel.apart) == ([], [])
            assert await bench.session.give_back() == 1
            assert (bench.channel.acks, bench.channel.apart) == ([], [2, 3])


async def test_all_is_given_back_before_the_limit_although_redis_does_not_answer() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            overdue = asyncio.create_task(bench.session.wait_held_too_long())
            bench.log.may_answer.clear()
            bench.deliver(b"1")
            await settle()
            await clock.move(CONSUMER_TIMEOUT_S * LATEST_PART - 1)
            assert not overdue.done()
            await clock.move(1)
            assert overdue.done()


async def test_nothing_is_given_back_while_messages_come_and_go() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            overdue = asyncio.create_task(bench.session.wait_held_too_long())
            for n in range(8):
                bench.deliver(b"1")
                await settle()
                await clock.move(CONSUMER_TIMEOUT_S / 4)
                bench.confirm_all()
                bench.barriers[n].set_result(None)
                await settle()
            assert not overdue.done()
            assert bench.session.oldest_s() == 0
            await cancel(overdue)


async def test_all_is_given_back_at_half_of_the_limit_while_redis_is_away() -> None:
    with moved_clock() as clock:
        async with running() as bench:
            overdue = asyncio.create_task(bench.session.wait_held_too_long())
            bench.deliver(b"1")
            await settle()
            bench.logs.is_there.clear()
            bench.lose_redis()
            await settle()
            await clock.move(HALF_S - 1)
            assert (overdue.done(), bench.task.done()) == (False, False)
            await clock.move(1)
            assert overdue.done()
            giving_back = asyncio.create_task(bench.session.give_back())
            await settle()
            await clock.move(GIVE_BACK_WITHIN_S)
            assert await giving_back == 1
            assert (bench.channel.acks, bench.channel.apart) == ([], [])
