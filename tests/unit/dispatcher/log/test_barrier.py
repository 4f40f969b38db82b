import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ResponseError

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.keys import Keys
from pushcluster_dispatcher.log.barrier import ACKNOWLEDGE_EVERY_S, Barrier
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.tasks import cancel
from tests.support.clock import moved_clock
from tests.support.waiting import eventually, settle

PASSED = [b"OK", [1, 0]]
TIMED_OUT = [b"OK", [0, 0]]
STILL_NOT = [[0, 0]]
AT_LAST = [[1, 0]]
NO_AOF = [b"OK", ResponseError("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")]


class PlayedWire:
    """Each barrier waits in `rounds` until the test answers it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.rounds: list[asyncio.Future[list[Any]]] = []
        self.asked: list[list[str]] = []

    async def execute(self, commands: Sequence[bytes]) -> list[Any]:
        self.asked.append([command.split(b"\r\n")[2].decode() for command in commands])
        self.rounds.append(asyncio.get_running_loop().create_future())
        return await self.rounds[-1]


class PlayedLink:
    def __init__(self, wire: PlayedWire) -> None:
        self.current = wire
        self.is_there = asyncio.Event()
        self.is_there.set()

    async def wire(self) -> PlayedWire:
        await self.is_there.wait()
        return self.current


@asynccontextmanager
async def running(link: PlayedLink) -> AsyncIterator[Barrier]:
    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    barrier = Barrier(link, Keys("ns.demo"), backoff=Backoff(lambda: 1.0), on_barrier=lambda _: None, sleep=sleep)
    task = asyncio.create_task(barrier.run())
    try:
        yield barrier
    finally:
        await cancel(task)


async def next_round(wire: PlayedWire, number: int) -> asyncio.Future[list[Any]]:
    await eventually(lambda: len(wire.rounds) >= number, within_s=2)
    return wire.rounds[number - 1]


async def test_one_barrier_serves_all_that_asked_before_it_began() -> None:
    wire = PlayedWire("life1")
    async with running(PlayedLink(wire)) as barrier:
        first, second = barrier.request("life1"), barrier.request("life1")
        (await next_round(wire, 1)).set_result(PASSED)
        await asyncio.wait_for(asyncio.gather(first, second), 2)
    assert len(wire.rounds) == 1


async def test_a_barrier_under_way_does_not_cover_what_was_answered_after_it_began() -> None:
    wire = PlayedWire("life1")
    async with running(PlayedLink(wire)) as barrier:
        early = barrier.request("life1")
        under_way = await next_round(wire, 1)
        late = barrier.request("life1")
        under_way.set_result(PASSED)
        await asyncio.wait_for(early, 2)
        second = await next_round(wire, 2)
        assert not late.done()
        second.set_result(PASSED)
        await asyncio.wait_for(late, 2)


@pytest.mark.parametrize(
    "answer",
    [[Unavailable("OOM"), [1, 0]], [b"OK", Unavailable("READONLY")], [b"OK", ResponseError("ERR x")]],
)
async def test_a_barrier_that_was_not_passed_is_repeated(answer: list[Any]) -> None:
    wire = PlayedWire("life1")
    async with running(PlayedLink(wire)) as barrier:
        request = barrier.request("life1")
        (await next_round(wire, 1)).set_result(answer)
        second = await next_round(wire, 2)
        assert not request.done()
        second.set_result(PASSED)
        await asyncio.wait_for(request, 2)
        assert not barrier.durability_reduced


async def test_a_barrier_that_takes_long_is_asked_about_again_and_not_begun_anew() -> None:
    """A later write would wait for a later fsync: where one takes longer than one WAITAOF, it would never be passed."""
    wire = PlayedWire("life1")
    async with running(PlayedLink(wire)) as barrier:
        early = barrier.request("life1")
        (await next_round(wire, 1)).set_result(TIMED_OUT)
        second = await next_round(wire, 2)
        late = barrier.request("life1")
        second.set_result(STILL_NOT)
        (await next_round(wire, 3)).set_result(AT_LAST)
        await asyncio.wait_for(early, 2)
        assert not late.done(), "it may have been answered after the write"
        (await next_round(wire, 4)).set_result(PASSED)
        await asyncio.wait_for(late, 2)
    assert wire.asked == [["EVAL", "WAITAOF"], ["WAITAOF"], ["WAITAOF"], ["EVAL", "WAITAOF"]]


async def test_after_a_lost_connection_the_barrier_is_run_on_the_next_one() -> None:
    link = PlayedLink(PlayedWire("life1"))
    async with running(link) as barrier:
        request = barrier.request("life1")
        first = await next_round(link.current, 1)
        link.current = PlayedWire("life1")
        first.set_exception(Unavailable("gone"))
        (await next_round(link.current, 1)).set_result(PASSED)
        await asyncio.wait_for(request, 2)


async def test_a_barrier_of_a_restarted_redis_does_not_cover_appends_before_the_restart() -> None:
    wire = PlayedWire("life2")
    async with running(PlayedLink(wire)) as barrier:
        before, after = barrier.request("life1"), barrier.request("life2")
        (await next_round(wire, 1)).set_result(PASSED)
        await asyncio.wait_for(after, 2)
        with pytest.raises(Unavailable, match="restarted before the barrier"):
            await before


async def test_without_an_append_only_file_barriers_pass_and_the_reduced_durability_is_reported() -> None:
    wire = PlayedWire("life1")
    async with running(PlayedLink(wire)) as barrier:
        request = barrier.request("life1")
        (await next_round(wire, 1)).set_result(NO_AOF)
        await asyncio.wait_for(request, 2)
        assert barrier.durability_reduced
        request = barrier.request("life1")
        (await next_round(wire, 2)).set_result(PASSED)
        await asyncio.wait_for(request, 2)
        assert not barrier.durability_reduced


async def test_no_barrier_runs_when_nobody_waits_any_more() -> None:
    wire = PlayedWire("life1")
    async with running(PlayedLink(wire)) as barrier:
        barrier.request("life1").cancel()
        still_here = barrier.request("life1")
        (await next_round(wire, 1)).set_result(PASSED)
        await asyncio.wait_for(still_here, 2)
        barrier.request("life1").cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(wire.rounds) == 1


SOON_S = ACKNOWLEDGE_EVERY_S / 4


async def test_requests_that_are_not_urgent_share_the_barrier_that_is_due_after_the_first_of_them() -> None:
    wire = PlayedWire("life1")
    with moved_clock() as clock:
        async with running(PlayedLink(wire)) as barrier:
            requests = []
            for _ in range(4):
                requests.append(barrier.request("life1", urgent=False))
                await clock.move(SOON_S - 0.001)
            assert wire.rounds == []
            await clock.move(0.004)
            assert len(wire.rounds) == 1
            wire.rounds[0].set_result(PASSED)
            await asyncio.wait_for(asyncio.gather(*requests), 2)
            barrier.request("life1", urgent=False)
            await clock.move(ACKNOWLEDGE_EVERY_S - 0.001)
            assert len(wire.rounds) == 1, "the others make nothing due any more"
            await clock.move(0.002)
            assert len(wire.rounds) == 2


async def test_an_urgent_request_begins_at_once_and_takes_along_all_that_wait() -> None:
    wire = PlayedWire("life1")
    with moved_clock() as clock:
        async with running(PlayedLink(wire)) as barrier:
            waiting = barrier.request("life1", urgent=False)
            urgent = barrier.request("life1")
            await settle()
            wire.rounds[0].set_result(PASSED)
            await asyncio.wait_for(asyncio.gather(waiting, urgent), 2)
            await clock.move(SOON_S)
            barrier.request("life1", urgent=False)
            await clock.move(ACKNOWLEDGE_EVERY_S - 0.001)
            assert len(wire.rounds) == 1, "nothing is due for what was taken along"
            await clock.move(0.002)
            assert len(wire.rounds) == 2


@pytest.mark.parametrize("for_s", [SOON_S, 5 * ACKNOWLEDGE_EVERY_S])
async def test_who_asks_while_a_barrier_is_under_way_waits_for_it_and_no_longer_than_the_others(for_s: float) -> None:
    wire = PlayedWire("life1")
    with moved_clock() as clock:
        async with running(PlayedLink(wire)) as barrier:
            barrier.request("life1")
            await settle()
            late = barrier.request("life1", urgent=False)
            await clock.move(for_s)
            wire.rounds[0].set_result(PASSED)
            await settle()
            assert not late.done()
            assert len(wire.rounds) == (2 if for_s > ACKNOWLEDGE_EVERY_S else 1)
            await clock.move(max(0.0, ACKNOWLEDGE_EVERY_S - for_s) + 0.001)
            assert len(wire.rounds) == 2


async def test_after_a_failure_nothing_waits_any_longer() -> None:
    wire = PlayedWire("life1")
    with moved_clock() as clock:
        async with running(PlayedLink(wire)) as barrier:
            failed = barrier.request("life1", urgent=False)
            await clock.move(ACKNOWLEDGE_EVERY_S + 0.001)
            late = barrier.request("life1", urgent=False)
            wire.rounds[0].set_exception(Unavailable("gone"))
            await settle()
            wire.rounds[1].set_result(PASSED)
            await asyncio.wait_for(asyncio.gather(failed, late), 2)


async def test_all_that_waited_for_a_connection_share_one_barrier_as_soon_as_there_is_one() -> None:
    link = PlayedLink(PlayedWire("life1"))
    with moved_clock() as clock:
        async with running(link) as barrier:
            link.is_there.clear()
            requests = [barrier.request("life1", urgent=False)]
            await clock.move(2 * ACKNOWLEDGE_EVERY_S)
            requests += [barrier.request("life1"), barrier.request("life1", urgent=False)]
            await settle()
            assert link.current.rounds == []
            link.is_there.set()
            await settle()
            link.current.rounds[0].set_result(PASSED)
            await asyncio.wait_for(asyncio.gather(*requests), 2)
            assert len(link.current.rounds) == 1
