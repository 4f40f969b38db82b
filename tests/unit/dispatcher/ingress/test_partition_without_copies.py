"""What a session does when the connection for copies is lost: that of its own deliveries stands."""

import asyncio

import pytest

from pushcluster_contract.errors import Unavailable
from tests.support.waiting import settle
from tests.unit.dispatcher.ingress.partition_bench import Bench, running


async def deliver(bench: Bench, *bodies: bytes) -> None:
    bench.deliver(*bodies)
    await settle()


async def test_what_was_not_confirmed_is_kept_and_its_copies_are_sent_again() -> None:
    """Put back, it would be appended a second time, under another id, where its producer gave none."""
    async with running() as bench:
        await deliver(bench, b"1", b"2")
        bench.copies.connected.clear()
        bench.copies.lose()
        await settle()
        await deliver(bench, b"3")
        assert (bench.task.done(), bench.copies.sent, bench.channel.acks) == (False, [b"1", b"2"], [])
        bench.copies.connected.set()
        await settle()
        assert bench.copies.sent == [b"1", b"2", b"1", b"2", b"3"]
        assert bench.log.attempts == [[b"10-1", b"10-2"], [b"10-1", b"10-2"], [b"10-3"]], "the same attempts"
        bench.confirm_all()
        for barrier in bench.barriers[1:]:
            barrier.set_result(None)
        await settle()
        assert bench.channel.acks == [3]


async def test_an_append_that_is_not_answered_yet_is_tried_again_under_the_same_name() -> None:
    async with running() as bench:
        bench.log.may_answer.clear()
        await deliver(bench, b"1")
        bench.copies.lose()
        await settle()
        bench.log.may_answer.set()
        await settle()
        assert bench.log.attempts == [[b"10-1"]] * 2
        assert bench.copies.sent == [b"1"]


async def test_a_session_that_has_begun_nothing_ends_with_the_connection() -> None:
    """Another dispatcher may have one."""
    async with running() as bench:
        await settle()
        bench.copies.lose()
        await settle()
        with pytest.raises(Unavailable, match="the connection for copies: gone"):
            await asyncio.wait_for(bench.task, 2)


async def test_a_session_that_finishes_waits_for_a_connection_while_something_has_begun() -> None:
    async with running() as bench:
        await deliver(bench, b"1")
        bench.copies.connected.clear()
        bench.copies.lose()
        bench.session.finish()
        await settle()
        assert not bench.task.done()
        bench.copies.connected.set()
        await settle()
        bench.confirm_all()
        for barrier in bench.barriers:
            barrier.set_result(None)
        await asyncio.wait_for(bench.task, 2)
        assert bench.channel.acks == [1]
