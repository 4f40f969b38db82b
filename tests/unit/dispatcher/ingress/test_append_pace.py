"""When batches begin: at once at an everyday rate, together when much comes."""

import asyncio

import pytest

from pushcluster_dispatcher.ingress.append_pace import JOIN_ABOVE_PER_S, JOIN_S, WINDOW_S, AppendPace
from pushcluster_runtime.tasks import cancel
from tests.support.clock import moved_clock
from tests.support.waiting import settle
from tests.unit.dispatcher.ingress.partition_bench import Bench, running

FAST = 2 * JOIN_ABOVE_PER_S
SLOW = JOIN_ABOVE_PER_S / 2


def counted(per_s: float, *, begin_s: float = 1_000.0, windows: int = 3) -> AppendPace:
    """Return a pace that has counted so many messages a second, and the first one after them."""
    pace = AppendPace()
    count(pace, per_s, begin_s, windows)
    return pace


def count(pace: AppendPace, per_s: float, begin_s: float, windows: int) -> None:
    seconds = windows * WINDOW_S
    for n in range(int(per_s * seconds) + 1):
        pace.count(begin_s + n / per_s)


async def test_the_first_message_begins_at_once() -> None:
    pace = AppendPace()
    pace.count(1_000.0)
    turn = asyncio.create_task(pace.turn())
    await settle()
    assert turn.done()


@pytest.mark.parametrize(("per_s", "waits"), [(SLOW, False), (JOIN_ABOVE_PER_S * 1.1, True), (FAST, True)])
async def test_a_batch_waits_only_at_a_high_rate(per_s: float, waits: bool) -> None:
    with moved_clock() as clock:
        turn = asyncio.create_task(counted(per_s).turn())
        await settle()
        assert turn.done() is not waits
        await clock.move(JOIN_S)
        assert turn.done()


async def test_batches_that_wait_begin_together_however_late_they_came() -> None:
    with moved_clock() as clock:
        pace = counted(FAST)
        turns = [asyncio.create_task(pace.turn())]
        await settle()
        await clock.move(JOIN_S * 0.9)
        turns.append(asyncio.create_task(pace.turn()))
        await settle()
        assert not any(turn.done() for turn in turns)
        await clock.move(JOIN_S * 0.1)
        assert all(turn.done() for turn in turns)
        late = asyncio.create_task(pace.turn())
        await settle()
        assert not late.done(), "it waits for others of its own"
        await cancel(late)


async def test_a_partition_that_ends_while_it_waits_disturbs_no_other() -> None:
    with moved_clock() as clock:
        pace = counted(FAST)
        ending, other = asyncio.create_task(pace.turn()), asyncio.create_task(pace.turn())
        await settle()
        await cancel(ending)
        await clock.move(JOIN_S)
        assert other.done()


async def test_after_a_silence_the_first_message_begins_at_once() -> None:
    pace = counted(FAST)
    pace.count(2_000.0)
    turn = asyncio.create_task(pace.turn())
    await settle()
    assert turn.done()


def make_fast(bench: Bench) -> None:
    """Let much have come to other partitions."""
    count(bench.pace, FAST, asyncio.get_running_loop().time() - 3 * WINDOW_S, 3)


async def test_messages_that_come_while_a_batch_waits_are_in_it() -> None:
    with moved_clock() as clock:
        async with running(pace=AppendPace()) as bench:
            make_fast(bench)
            bench.deliver(b"1")
            await settle()
            bench.deliver(b"2")
            await settle()
            assert bench.log.batches == []
            await clock.move(JOIN_S)
            assert [[message.body for message in batch] for batch in bench.log.batches] == [[b"1", b"2"]]


async def test_a_session_that_finishes_while_a_batch_waits_does_not_begin_it() -> None:
    with moved_clock() as clock:
        async with running(pace=AppendPace()) as bench:
            make_fast(bench)
            bench.deliver(b"1")
            await settle()
            bench.session.finish()
            await clock.move(JOIN_S)
            await bench.task
            assert bench.log.batches == []
