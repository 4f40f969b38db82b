"""A Redis whose disk is slow: it answers late and steadily, and nothing may take it for one that hangs."""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest
from redis import Redis

from local_run.stores import build_redis, running
from pushcluster_runtime.redis.wire import RedisWire, pack
from tests.support.dispatchers import all_acknowledged, producer, reading_logs, running_dispatcher
from tests.support.planes import Plane

FLUSH_S: Final = 0.15
"""What every turn of Redis with something to write waits for; it reads at most 16 KiB of a connection in one turn."""
USERS: Final = 64
COUNT: Final = 600
BODY_BYTES: Final = 1_500


@pytest.fixture(scope="module")
def redis_with_a_slow_disk() -> Iterator[str]:
    """A Redis of its own; gives its URL."""
    password = secrets.token_hex(16)
    spec = build_redis(password, max_memory="100mb")
    spec = replace(spec, command=(*spec.command, "--enable-debug-command", "yes"))
    with running(spec, run_id="slow-disk") as (container,):
        url = f"redis://:{password}@127.0.0.1:{container.host_port}/0"
        with Redis.from_url(url) as client:
            client.execute_command("DEBUG", "AOF-FLUSH-SLEEP", int(FLUSH_S * 1_000_000))
        yield url


async def test_a_slow_disk_alone_resets_nothing_and_doubles_nothing(plane: Plane, redis_with_a_slow_disk: str) -> None:
    """Without message ids: what is sent to Redis twice is in the log twice."""
    slow = replace(plane, redis_url=redis_with_a_slow_disk)
    async with producer(slow) as back_end, reading_logs(slow) as logs:
        for n in range(COUNT):
            back_end.send(f"user{n % USERS}", f"{n} ".ljust(BODY_BYTES, "."))
        await back_end.confirmed()
        async with running_dispatcher(slow) as dispatcher:
            await all_acknowledged(slow, dispatcher, COUNT)
            assert "partitions start again" not in dispatcher.log()
        assert sum([await logs.length(f"user{n}") for n in range(USERS)]) == COUNT


BATCHES: Final = 40
"""Redis flushes once for as many of them as it reads at one time: on a busy machine for two or more."""


async def test_a_pipeline_may_take_longer_than_silence_may(redis_with_a_slow_disk: str) -> None:
    wire = await RedisWire.connect(redis_with_a_slow_disk, name="wire", silence_s=8 * FLUSH_S)
    batch = [pack("SET", "key", "." * 200)] * 100
    started = asyncio.get_running_loop().time()
    assert await asyncio.gather(*(wire.execute(batch) for _ in range(BATCHES))) == [[b"OK"] * 100] * BATCHES
    assert asyncio.get_running_loop().time() - started > 8 * FLUSH_S, "or else it was not slow"
    wire.close()
