"""When a Redis that says nothing is given up. No Redis: what it says, and when, is played over a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_runtime.redis.wire import SILENCE_CHECKS, RedisWire, pack
from tests.support.clock import MovedClock, moved_clock

SILENCE_S: Final = 10.0
PING: Final = pack("PING")
PONG: Final = b"+PONG\r\n"


@pytest.fixture
async def both() -> AsyncIterator[tuple[RedisWire, socket.socket]]:
    """A connection, and Redis's end of it."""
    ours, theirs = socket.socketpair()
    _, wire = await asyncio.get_running_loop().create_connection(lambda: RedisWire(SILENCE_S), sock=ours)
    with theirs:
        yield wire, theirs
        wire.close()


async def pass_time(clock: MovedClock, seconds: int) -> None:
    """Let so much time pass that no look at the silence is left out: there is one a second."""
    for _ in range(seconds):
        await clock.move(SILENCE_S / SILENCE_CHECKS)


async def test_replies_that_come_slowly_and_steadily_are_waited_for(both: tuple[RedisWire, socket.socket]) -> None:
    wire, redis = both
    with moved_clock() as clock:
        batches = [asyncio.create_task(wire.execute([PING] * 3)) for _ in range(3)]
        for byte in PONG * 9:
            await pass_time(clock, 3)
            redis.send(bytes([byte]))
        await clock.move(0)
        assert await asyncio.gather(*batches) == [[b"PONG"] * 3] * 3


async def test_a_redis_that_stops_in_the_middle_of_its_replies_is_given_up(
    both: tuple[RedisWire, socket.socket],
) -> None:
    wire, redis = both
    with moved_clock() as clock:
        batches = [asyncio.create_task(wire.execute([PING])) for _ in range(2)]
        await pass_time(clock, 5)
        redis.send(PONG)
        assert await batches[0] == [b"PONG"]
        await pass_time(clock, 9)
        assert not wire.lost.done()
        await pass_time(clock, 1)
        assert wire.lost.done()
        with pytest.raises(Unavailable, match="no reply within 10 s"):
            await batches[1]


async def test_silence_counts_only_while_a_reply_is_due(both: tuple[RedisWire, socket.socket]) -> None:
    wire, redis = both
    with moved_clock() as clock:
        for _ in range(3):
            replies = asyncio.create_task(wire.execute([PING]))
            await pass_time(clock, 6)
            redis.send(PONG)
            assert await replies == [b"PONG"]
            await pass_time(clock, 6)
        await pass_time(clock, 20)
        assert not wire.lost.done()
