"""A real Redis that is really full: who fetches messages comes in, what nobody needs leaves it, and messages go on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation, StreamId, session_id
from pushcluster_contract.keys import encode_member
from pushcluster_contract.scripts import Script
from pushcluster_dispatcher.log.barrier import Barrier
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.registry.store import CursorMove, SessionRegistry
from pushcluster_gateway.session.delivery import ReadPage
from pushcluster_operator.sweep.registry import RegistryClient as OperatorsRegistry
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.client import ScriptRunner, connect
from pushcluster_runtime.redis.wire import RedisWire
from pushcluster_runtime.tasks import cancel
from tests.support.dispatchers import Logs, Producer, RunningDispatcher
from tests.support.gateways import Backend, running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.waiting import WITHIN_S, eventually

ROOM_BYTES: Final = 4 * 1_048_576
COUNT: Final = 600
BODY_BYTES: Final = 16_384
"""Together more than twice the room."""
FULL: Final = -(1 << 40)
USERS: Final = 20
DEMO: Final = Destination("queue", "demo")
HERE: Final = Incarnation("pod-1", "1" * 16)
LOST: Final = Incarnation("pod-2", "2" * 16)


@asynccontextmanager
async def room_left(logs: Logs | Backend, size: int) -> AsyncIterator[None]:
    """Let Redis take so many bytes more than it holds now; with FULL it takes none, whatever it lets go of."""
    before = str((await logs.redis.config_get("maxmemory"))["maxmemory"])
    used = (await logs.redis.info("memory"))["used_memory"]
    await logs.redis.config_set("maxmemory", max(used + size, 1))
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
        await eventually(gateway.is_ready)
        # However slowly messages come here: what she has not acknowledged stays in the log, until nothing more fits.
        await alice.subscribe("/user/queue/demo", ack="client")
        waiting = [f"bob {n}" for n in range(20)]
        for body in waiting:
            producing.send("bob", body)
        await producing.confirmed()
        bodies = [f"{n} ".ljust(BODY_BYTES, ".") for n in range(COUNT)]
        for body in bodies:
            producing.send("alice", body)
        await eventually(lambda: "Redis does not take messages" in dispatcher.log())
        got: list[str] = []
        for _ in bodies:
            message = await alice.next_message()
            got.append(message.text)
            await alice.ack(message)
        assert got == bodies
        assert await logs.bodies("bob") == waiting

        async def alices_log_is_gone() -> bool:
            return not await logs.length("alice")

        await eventually(alices_log_is_gone)


async def test_users_whose_messages_fill_redis_come_in_and_fetch_them_all_in_order(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    # What was delivered leaves the log a second later, and the rest, which waited in ingress, follows.
    limits = Limits(min_kept_delivered_s=1, walk_round_s=1)
    async with (
        running_gateway(plane, limits=limits, RESUME_WINDOW_SECONDS="1") as gateway,
        room_left(logs, ROOM_BYTES),
    ):
        await eventually(gateway.is_ready)
        bodies = [f"{n} ".ljust(BODY_BYTES, ".") for n in range(COUNT // USERS)]
        for body in bodies:
            for user in range(USERS):
                producing.send(f"user-{user}", body)
        await producing.confirmed()

        async def is_full() -> bool:
            return "Redis does not take messages" in dispatcher.log()

        await eventually(is_full)

        async def fetch(user: str) -> list[str]:
            async with connected(gateway.url, token=token(user)) as client:
                await client.subscribe("/user/queue/demo")
                return [message.text for message in await client.next_messages(len(bodies))]

        fetched = await asyncio.gather(*(fetch(f"user-{user}") for user in range(USERS)))
        assert fetched == [bodies] * USERS


async def test_all_that_lets_users_in_and_out_works_while_redis_takes_no_message(plane: Plane, back: Backend) -> None:
    client = connect(plane.redis_url, name="test")
    scripts = ScriptRunner(client)
    registry = SessionRegistry(
        client, scripts, back.keys, HERE, kept_delivered_ms=0, max_sessions_per_user=2, lost_gateway_ms=60_000
    )
    operator = OperatorsRegistry(plane.cluster, plane.redis_url)
    old, first, second = (session_id(n.to_bytes(17, "little")) for n in range(3))
    member = encode_member("alice", old)
    await scripts.run(Script.RENEW_LEASE, [back.keys.gateways], [str(LOST), 1, 60_000])
    await scripts.run(Script.EXPIRE_LEASES, [back.keys.gateways], [str(LOST)])
    await scripts.run(Script.ADD_MEMBERS, [back.keys.gateway(LOST)], [member])
    await scripts.run(Script.REGISTER, [back.keys.sessions("alice")], [old, str(LOST), 600_000, 2])
    newest = StreamId.parse(await back.push("alice", "one"))

    async def sessions() -> Mapping[str, Any]:
        return await back.sessions("alice")

    async with room_left(back, FULL):
        with pytest.raises(Unavailable, match="maxmemory"):
            await back.push("alice", "two")
        assert not (await registry.renew_lease(0.0)).existed  # made anew
        await registry.register("alice", first)
        assert await registry.remove_lost("alice") == 1
        await registry.register("alice", second)
        await registry.refresh_member("alice", second)
        state, _ = await registry.subscribe("alice", second, DEMO, without_queue=True)
        assert state.newest == newest
        assert {sid: len(entry.destinations) for sid, entry in (await sessions()).items()} == {first: 0, second: 1}
        page = await registry.read_page("alice", DEMO, ReadPage(state.cursor, 10, 100, 1))
        assert [entry.body for entry in page.entries] == [b"one"]
        await registry.advance_cursor(CursorMove("alice", DEMO, newest, newest))
        assert await back.cursor("alice") == newest
        await registry.unsubscribe("alice", second, DEMO)
        await registry.leave("alice", second)
        assert list(await sessions()) == [first]
        assert await operator.remove(LOST) == 0
        assert await operator.remove(HERE) == 1
        assert not await back.leases()
        assert await registry.remove_siblings() == 0
        await registry.remove_own_incarnation()
        keys = [back.keys.meta("alice", DEMO), back.keys.log("alice", DEMO), back.keys.destinations("alice")]
        assert await scripts.run(Script.FORGET, keys, [str(DEMO)]) == 1
        with pytest.raises(Unavailable, match="maxmemory"):
            await back.push("alice", "two")
    await registry.close()
    await client.aclose()
    await operator.close()


async def test_what_is_in_the_logs_is_acknowledged_while_redis_takes_no_message(plane: Plane, back: Backend) -> None:
    """It would come again when the dispatcher or Redis restarts, and be appended once more."""
    wire = await RedisWire.connect(plane.redis_url, name="test")

    class Link:
        async def wire(self) -> RedisWire:
            return wire

    barrier = Barrier(Link(), back.keys, backoff=Backoff(lambda: 1.0), on_barrier=lambda _: None)
    running = asyncio.create_task(barrier.run())
    async with room_left(back, FULL), asyncio.timeout(WITHIN_S):
        with pytest.raises(Unavailable, match="maxmemory"):
            await back.push("alice", "one")
        await barrier.request(wire.run_id)
    await cancel(running)
    wire.close()
