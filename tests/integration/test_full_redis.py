"""A real Redis that is really full: what nobody needs any more leaves it, and messages go on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pushcluster_gateway.limits import Limits
from tests.support.dispatchers import Logs, Producer, RunningDispatcher
from tests.support.gateways import running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.waiting import eventually

ROOM_BYTES: Final = 4 * 1_048_576
COUNT: Final = 600
BODY_BYTES: Final = 16_384
"""Together more than twice the room."""
WITHIN_S: Final = 60.0


@asynccontextmanager
async def room_left(logs: Logs, size: int) -> AsyncIterator[None]:
    """Let Redis take so many bytes more than it holds now."""
    before = (await logs.redis.config_get("maxmemory"))["maxmemory"]
    used = (await logs.redis.info("memory"))["used_memory"]
    await logs.redis.config_set("maxmemory", used + size)
    try:
        yield
    finally:
        await logs.redis.config_set("maxmemory", before)


async def test_a_redis_full_of_delivered_messages_frees_itself_and_loses_nothing_that_waits(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    # A batch that fits in half is delivered by the walk, and makes room for its other half then.
    limits = Limits(min_kept_delivered_s=1, walk_round_s=1)
    async with (
        running_gateway(plane, limits=limits, RESUME_WINDOW_SECONDS="1") as gateway,
        connected(gateway.url, token=token("alice")) as alice,
        room_left(logs, ROOM_BYTES),
    ):
        await eventually(gateway.is_ready, within_s=10)
        await alice.subscribe("/user/queue/demo")
        waiting = [f"bob {n}" for n in range(20)]
        for body in waiting:
            producing.send("bob", body)
        await producing.confirmed()
        bodies = [f"{n} ".ljust(BODY_BYTES, ".") for n in range(COUNT)]
        for body in bodies:
            producing.send("alice", body)
        got = [message.text for message in await alice.next_messages(COUNT, WITHIN_S)]
        assert got == bodies
        assert "Redis does not take messages" in dispatcher.log(), "Redis was never full"
        assert await logs.bodies("bob") == waiting

        async def alices_log_is_gone() -> bool:
            return not await logs.length("alice")

        await eventually(alices_log_is_gone, within_s=10)
