"""Message ids with real services: what they cost Redis, and what they mean to clients."""

import asyncio
from secrets import token_hex
from typing import Any, Final

from pushcluster_contract.headers import REJECT_REASON
from pushcluster_gateway.limits import Limits
from tests.integration.dispatcher.test_full_redis import room_left
from tests.support.dispatchers import Logs, Producer, RunningDispatcher, consuming, running_dispatcher
from tests.support.gateways import Backend, running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.waiting import eventually

ROOM_BYTES: Final = 1_048_576
COUNT: Final = 12_000
"""Their ids alone need more than twice that room."""
WINDOW_S: Final = 4
"""So long that a busy machine fills that room in less, and so short that a test can wait for it a few times."""
WAITING: Final = 200
LARGE_BODY_BYTES: Final = 16_384
"""Of so many messages: more than twice that room."""
SHORT_WINDOW_S: Final = 2
WINDOWS_S: Final = 5.0
"""More than two of these windows: an interval, not a wait for something."""


async def ids(plane: Plane, logs: Logs) -> list[bytes]:
    """Return the keys of all message ids that are known."""
    return [key async for key in logs.redis.scan_iter(f"pc:{plane.cluster}:*:id:*", count=1_000)]


async def test_a_redis_full_of_message_ids_frees_itself_when_their_window_is_over(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    limits = Limits(min_kept_delivered_s=1, walk_round_s=1)
    # Nothing that waits leaves the log, however far alice is behind.
    variables = {"IDEMPOTENCY_WINDOW_SECONDS": str(WINDOW_S), "OFFLINE_MAX_PER_DESTINATION": str(COUNT)}
    async with (
        running_dispatcher(plane, **variables) as dispatcher,
        running_gateway(plane, limits=limits, RESUME_WINDOW_SECONDS="1") as gateway,
        connected(gateway.url, token=token("alice")) as alice,
        room_left(logs, ROOM_BYTES),
    ):
        await eventually(gateway.is_ready)
        await alice.subscribe("/user/queue/demo")
        bodies = [str(n) for n in range(COUNT)]
        for body in bodies:
            producing.send("alice", body, message_id=token_hex(16))
        got: list[str] = []
        while got[-1:] != bodies[-1:]:
            got.append((await alice.next_message()).text)
        assert list(dict.fromkeys(got)) == bodies
        # A Redis that a busy disk holds up for longer than the window forgets ids: then messages may come twice.
        assert got == bodies or await dispatcher.metric("partition_resets_total")
        assert "Redis does not take messages" in dispatcher.log(), "Redis was never full"

        async def ids_are_gone() -> bool:
            return not await ids(plane, logs)

        await eventually(ids_are_gone)


async def test_what_waits_for_longer_than_the_window_with_a_dispatcher_that_ends_is_not_appended_twice(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    bodies = [f"{n:{LARGE_BODY_BYTES}}" for n in range(WAITING)]
    for body in bodies:
        producing.send("alice", body, message_id=body.strip())
    await producing.confirmed()
    variables = {"IDEMPOTENCY_WINDOW_SECONDS": str(SHORT_WINDOW_S)}
    async with room_left(logs, ROOM_BYTES), running_dispatcher(plane, **variables) as first:
        await eventually(lambda: "Redis does not take messages" in first.log())
        acknowledged, under_way = await _wait_for_part_of_a_batch(first, logs)
        await first.kill()
        # What is known now stays known, however long the next one needs to start.
        for key in await ids(plane, logs):
            await logs.redis.persist(key)
    async with running_dispatcher(plane) as second:
        await second.wait_for_metric("acknowledged_total", WAITING - acknowledged)
        assert await second.metric("duplicates_total") == under_way
    assert await logs.bodies("alice") == bodies


async def _wait_for_part_of_a_batch(dispatcher: RunningDispatcher, logs: Logs) -> tuple[int, int]:
    """Return how much is acknowledged, and how much more has been in the log for several windows.

    There may be no such part when Redis becomes full between two batches: then it gets room for a little of the next.
    """
    while True:
        await asyncio.sleep(WINDOWS_S)
        acknowledged = int(await dispatcher.metric("acknowledged_total"))
        if under_way := await logs.length("alice") - acknowledged:
            return acknowledged, under_way
        room = int((await logs.redis.config_get("maxmemory"))["maxmemory"])
        await logs.redis.config_set("maxmemory", room + 2 * LARGE_BODY_BYTES)


async def test_another_body_under_a_known_message_id_is_put_aside_and_no_two_clients_see_different_messages(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, back: Backend
) -> None:
    async with (
        running_gateway(plane) as gateway,
        connected(gateway.url, token=token("alice")) as live,
        connected(gateway.url, token=token("alice")) as resuming,
        consuming(plane) as rejected,
    ):
        await live.subscribe("/user/queue/demo")
        back.send_copies = False  # as by a dispatcher that ended before it sent them
        await back.push("alice", "A", message_id="k")
        producing.send("alice", "B", message_id="k")
        await producing.confirmed()
        await eventually(lambda: rejected)
        headers = dict[str, Any](rejected[0].properties.headers or {})
        assert (rejected[0].body, "under this message id" in headers[REJECT_REASON]) == (b"B", True)
        producing.send("alice", "next")
        seen = [(message.text, message["message-id"]) for message in await live.next_messages(2)]
        await resuming.subscribe("/user/queue/demo", last_message_id="1-0")
        assert [(message.text, message["message-id"]) for message in await resuming.next_messages(2)] == seen
        assert [text for text, _ in seen] == ["A", "next"]
