"""What a session does when Redis is lost, restarts, or says that somebody else has gone on."""

import asyncio
from typing import Any

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_dispatcher.ingress.interfaces import RedisLost
from pushcluster_dispatcher.log.entries import Appended, AppendRefused, StaleToken
from tests.support.waiting import settle
from tests.unit.dispatcher.ingress.partition_bench import Bench, running

FOUND = Appended(b"1-1", True, 0, b"", 0, (b"", b""), made_before=True)
NEW = Appended(b"1-2", False, 0, b"", 0)


async def deliver(bench: Bench, *bodies: bytes, **more: Any) -> None:
    bench.deliver(*bodies, **more)
    await settle()


async def come_back(bench: Bench) -> None:
    """Redis is lost, and there again."""
    bench.lose_redis()
    await settle()


def tried(bench: Bench) -> list[list[tuple[bytes, bytes]]]:
    """Return bodies and attempts of each append."""
    bodies = [[message.body for message in batch] for batch in bench.log.batches]
    return [list(zip(*each, strict=True)) for each in zip(bodies, bench.log.attempts, strict=True)]


async def test_a_consumer_that_stands_by_takes_no_token() -> None:
    async with running() as bench:
        await settle()
        assert bench.logs.tokens == []
        await deliver(bench, b"1")
        assert bench.logs.tokens == [10]


async def test_nothing_is_appended_before_there_is_a_token() -> None:
    async with running() as bench:
        bench.logs.may_open.clear()
        await deliver(bench, b"1")
        assert bench.log.batches == []
        bench.logs.may_open.set()
        await settle()
        assert tried(bench) == [[(b"1", b"10-1")]]


async def test_a_session_that_has_begun_nothing_ends_with_redis() -> None:
    """Another dispatcher may have Redis."""
    async with running() as bench:
        await settle()
        bench.lose_redis()
        await settle()
        with pytest.raises(Unavailable, match="Redis: gone"):
            await bench.task


async def test_a_session_whose_connection_is_lost_before_it_begins_ends_too() -> None:
    async with running() as bench:
        bench.logs.first = bench.logs.wires[0]
        bench.lose_redis()
        await settle()
        assert bench.task.done()


async def test_a_session_that_has_acknowledged_everything_ends_with_redis() -> None:
    async with running() as bench:
        await deliver(bench, b"1")
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await settle()
        assert bench.channel.acks == [1]
        bench.lose_redis()
        await settle()
        assert bench.task.done()


async def test_what_redis_did_not_answer_is_tried_again_under_the_same_name_and_a_new_token() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        await deliver(bench, b"1", b"2")
        await come_back(bench)
        assert not bench.task.done()
        assert bench.logs.tokens == [10, 20]
        assert tried(bench) == [[(b"1", b"10-1"), (b"2", b"10-2")]] * 2
        bench.log.may_answer.set()
        await settle()
        assert len(bench.barriers) == 1
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await settle()
        assert bench.channel.acks == [2]
        await deliver(bench, b"3")
        assert tried(bench)[-1] == [(b"3", b"10-3")], "the channel is the same"


async def test_a_connection_that_fails_before_its_loss_is_known_is_lost() -> None:
    async with running() as bench:
        bench.log.error = Unavailable("Redis: no reply within 5 s")
        bench.log.may_answer.clear()
        await deliver(bench, b"1")
        bench.log.may_answer.set()
        bench.lose_redis()
        bench.log.error = None
        await settle()
        assert tried(bench) == [[(b"1", b"10-1")]] * 2


async def test_while_redis_is_away_what_has_begun_is_kept() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        await deliver(bench, b"1")
        bench.logs.is_there.clear()
        bench.lose_redis()
        await deliver(bench, b"2")
        assert (bench.task.done(), len(bench.log.batches), bench.channel.acks) == (False, 1, [])
        bench.log.may_answer.set()
        bench.logs.is_there.set()
        await settle()
        assert tried(bench)[1:] == [[(b"1", b"10-1")], [(b"2", b"10-2")]]


async def test_a_redis_that_is_lost_again_while_a_token_is_taken_is_waited_for_again() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        await deliver(bench, b"1")
        bench.logs.may_open.clear()
        await come_back(bench)
        await come_back(bench)
        bench.logs.may_open.set()
        await settle()
        assert len(bench.logs.wires) == 3
        assert tried(bench) == [[(b"1", b"10-1")]] * 2


async def test_a_restart_before_the_barrier_makes_every_open_batch_again_in_order() -> None:
    async with running() as bench:
        await deliver(bench, b"1")
        await deliver(bench, b"2")
        bench.confirm_all()
        bench.barriers[1].set_exception(Unavailable("Redis: restarted before the barrier"))
        await settle()
        assert tried(bench)[2:] == [[(b"1", b"10-1")], [(b"2", b"10-2")]]
        assert bench.copies.sent == [b"1", b"2", b"1", b"2"]
        bench.confirm_all()
        bench.barriers[3].set_result(None)
        await settle()
        assert bench.channel.acks == [], "the barriers of the run that has ended count for nothing"
        bench.barriers[2].set_result(None)
        await settle()
        assert bench.channel.acks == [2]


async def test_a_batch_that_only_waits_for_an_earlier_one_is_not_made_again_and_not_told_of_twice() -> None:
    async with running() as bench:
        bench.log.sessions = b""
        await deliver(bench, b"1", reply_to="q")
        await deliver(bench, b"2", reply_to="q")
        bench.confirm_all()
        bench.barriers[1].set_result(None)
        await settle()
        assert len(bench.told) == 1
        await come_back(bench)
        assert tried(bench)[2:] == [[(b"1", b"10-1")]]
        bench.confirm_all()
        bench.barriers[2].set_result(None)
        await settle()
        assert (bench.channel.acks, len(bench.told)) == ([2], 2)


async def test_what_stood_in_the_log_already_is_counted_once_and_named() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        await deliver(bench, b"there", b"missing", b"by id")
        bench.log.answers = {b"there": FOUND, b"missing": NEW, b"by id": FOUND._replace(made_before=False)}
        await come_back(bench)
        bench.log.may_answer.set()
        await settle()
        assert [bench.count(name) for name in ("received", "appended", "duplicates")] == [3, 2, 1]
        assert [bench.count("attempts_again", result=each) for each in ("found", "appended")] == [1, 1]


async def test_what_redis_had_lost_is_counted_as_appended_twice_and_received_once() -> None:
    async with running() as bench:
        bench.log.answers = {b"1": NEW, b"2": NEW}
        await deliver(bench, b"1", b"2")
        bench.log.answers = {b"1": FOUND, b"2": NEW}
        await come_back(bench)
        assert [bench.count(name) for name in ("received", "appended", "duplicates")] == [2, 3, 0]
        assert [bench.count("attempts_again", result=each) for each in ("found", "appended")] == [1, 1]


async def test_a_rejected_message_is_put_aside_and_told_of_once() -> None:
    async with running() as bench:
        bench.log.answers = {b"2": AppendRefused("another message", other_body=True)}
        bench.deliver(b"1", headers={}, reply_to="q")
        await deliver(bench, b"2", reply_to="q")
        bench.rejects.taken.set()
        await settle()
        assert len(bench.rejects.put_aside) == len(bench.told) == 2
        await come_back(bench)
        bench.confirm_all()
        bench.barriers[1].set_result(None)
        await settle()
        assert len(bench.rejects.put_aside) == len(bench.told) == 2
        assert (bench.channel.acks, bench.count("rejected", reason="message_id")) == ([2], 1)


async def test_a_rejected_message_that_was_not_put_aside_yet_is_put_aside_again() -> None:
    async with running() as bench:
        await deliver(bench, b"1", headers={})
        await come_back(bench)
        assert [body for body, _ in bench.rejects.put_aside] == [b"1"] * 2
        bench.confirm_all()
        for barrier in bench.barriers:
            barrier.set_result(None)
        await settle()
        assert bench.channel.acks == [1]


async def test_nobody_is_told_of_a_message_that_was_appended_and_has_left_the_log_since() -> None:
    async with running() as bench:
        bench.log.answers = {b"1": Appended(b"", True, 0, b"", 0, made_before=True)}
        await deliver(bench, b"1", reply_to="q")
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await settle()
        assert (bench.channel.acks, bench.told) == ([1], [])


async def test_a_session_that_others_have_fenced_off_ends_at_once() -> None:
    async with running() as bench:
        bench.log.error = StaleToken("Redis: STALE")
        await deliver(bench, b"1")
        with pytest.raises(ExceptionGroup) as raised:
            await bench.task
        assert raised.group_contains(StaleToken, depth=2)
        assert (bench.logs.tokens, bench.count("appends_fenced")) == ([10], 1)


async def test_a_channel_that_has_fallen_while_a_token_is_taken_ends_the_session() -> None:
    async with running() as bench:
        bench.logs.error = Unavailable("RabbitMQ: channel closed")
        await deliver(bench, b"1")
        with pytest.raises(ExceptionGroup) as raised:
            await bench.task
        assert raised.group_contains(Unavailable, match="channel closed", depth=2)
        assert not raised.group_contains(RedisLost)
        assert bench.log.batches == []


async def test_a_session_that_finishes_goes_on_until_redis_has_answered() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        await deliver(bench, b"1")
        bench.session.finish()
        await come_back(bench)
        await deliver(bench, b"2")
        assert not bench.task.done()
        bench.log.may_answer.set()
        await settle()
        bench.confirm_all()
        bench.barriers[0].set_result(None)
        await asyncio.wait_for(bench.task, 2)
        assert bench.channel.acks == [1]


async def test_a_session_that_finishes_before_its_first_batch_takes_no_token() -> None:
    async with running() as bench:
        await settle()
        bench.session.finish()
        await deliver(bench, b"1")
        await asyncio.wait_for(bench.task, 2)
        assert bench.logs.tokens == []


async def test_a_partition_that_ends_takes_no_copies_from_another_one() -> None:
    """Copies of several partitions travel in one AMQP message, and all of them wait for its confirm."""
    async with running() as bench:
        await deliver(bench, b"1")
        (shared,) = bench.copies.open
        bench.task.cancel()
        await settle()
        assert bench.task.done()
        assert not shared.cancelled()
