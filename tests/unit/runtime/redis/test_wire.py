"""When a Redis that says nothing is given up. No Redis: what it says, and when, is played over a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_runtime.redis.wire import RedisWire, pack

SILENCE_S: Final = 0.3
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


async def test_replies_that_come_slowly_and_steadily_are_waited_for(both: tuple[RedisWire, socket.socket]) -> None:
    wire, redis = both
    batches = [asyncio.create_task(wire.execute([PING] * 3)) for _ in range(3)]
    for byte in PONG * 9:
        await asyncio.sleep(SILENCE_S / 20)
        redis.send(bytes([byte]))
    assert await asyncio.gather(*batches) == [[b"PONG"] * 3] * 3


async def test_a_redis_that_stops_in_the_middle_of_its_replies_is_given_up(
    both: tuple[RedisWire, socket.socket],
) -> None:
    wire, redis = both
    batches = [asyncio.create_task(wire.execute([PING])) for _ in range(2)]
    await asyncio.sleep(SILENCE_S / 2)
    redis.send(PONG)
    assert await batches[0] == [b"PONG"]
    with pytest.raises(Unavailable, match=r"no reply within 0\.3 s"):
        await asyncio.wait_for(batches[1], 10 * SILENCE_S)
    assert wire.lost.done()


async def test_silence_counts_only_while_a_reply_is_due(both: tuple[RedisWire, socket.socket]) -> None:
    wire, redis = both
    for _ in range(3):
        replies = asyncio.create_task(wire.execute([PING]))
        await asyncio.sleep(SILENCE_S * 0.6)
        redis.send(PONG)
        assert await replies == [b"PONG"]
        await asyncio.sleep(SILENCE_S * 0.6)
    await asyncio.sleep(2 * SILENCE_S)
    assert not wire.lost.done()
