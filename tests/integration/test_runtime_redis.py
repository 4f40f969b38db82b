"""Both Redis clients against a real server, through its faults."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
from redis.asyncio import Redis

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.keys import Keys
from pushcluster_contract.scripts import Script
from pushcluster_runtime.redis.client import (
    DIGESTS,
    Call,
    ScriptRunner,
    connect,
    translated,
)
from pushcluster_runtime.redis.wire import RedisWire, pack
from tests.support.appends import append_call
from tests.support.containers import Services, down, kill_and_start, paused
from tests.support.planes import Plane
from tests.support.waiting import WITHIN_S, eventually

SID: Final = "a" * 26
DEMO: Final = Destination("queue", "demo")


def pack_script(script: Script, call: Call) -> bytes:
    return pack("EVALSHA", DIGESTS[script], len(call.keys), *call.keys, *call.args)


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[Redis]:
    client = connect(plane.redis_url, name="test")
    yield client
    await client.aclose()


@pytest.fixture
async def wire(plane: Plane) -> AsyncIterator[RedisWire]:
    connection = await RedisWire.connect(plane.redis_url, name="wire")
    yield connection
    connection.close()


@pytest.fixture
def call(plane: Plane) -> Call:
    return Call([Keys(plane.cluster).sessions("alice")], [SID, "pod." + "0" * 16, 60_000, 64])


@pytest.fixture
def append(plane: Plane) -> Call:
    """A call of the one script that a full server refuses."""
    return append_call(Keys(plane.cluster), "alice", DEMO, "body")


async def test_scripts_are_there_before_the_first_call_on_every_connection(client: Redis, call: Call) -> None:
    """Else the second half of a pipeline could run without its first half after a restart."""
    await client.config_resetstat()
    replies = await asyncio.gather(*(ScriptRunner(client).run_many(Script.REGISTER, [call] * 50) for _ in range(8)))
    assert {reply for batch in replies for reply in batch} == {1}
    assert (await client.info("commandstats")).get("cmdstat_evalsha", {}).get("failed_calls", 0) == 0


async def test_a_flushed_script_is_loaded_again(client: Redis, call: Call) -> None:
    runner = ScriptRunner(client)
    assert await runner.run(Script.REGISTER, call.keys, call.args) == 1
    await client.script_flush()
    assert await runner.run_many(Script.REGISTER, [call, call]) == [1, 1]


async def test_a_server_that_is_away_is_unavailable_and_later_it_is_not(
    client: Redis, services: Services, call: Call
) -> None:
    runner = ScriptRunner(client)
    await runner.run(Script.REGISTER, call.keys, call.args)
    async with down(services.redis):
        with pytest.raises(Unavailable):
            await runner.run(Script.REGISTER, call.keys, call.args)

    async def works() -> bool:
        try:
            return bool(await runner.run(Script.REGISTER, call.keys, call.args))
        except Unavailable:
            return False

    await eventually(works)


async def test_a_full_server_is_unavailable_and_names_the_reason(client: Redis, wire: RedisWire, append: Call) -> None:
    before = str((await client.config_get("maxmemory"))["maxmemory"])
    await client.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable, match=r"OOM|maxmemory"):
            await ScriptRunner(client).run(Script.APPEND, append.keys, append.args)
        with pytest.raises(Unavailable), translated():
            await client.set("k", "v")
        (reply,) = await wire.execute([pack_script(Script.APPEND, append)])
        assert isinstance(reply, Unavailable)
    finally:
        await client.config_set("maxmemory", before)


async def test_a_transaction_refused_for_memory_does_nothing_at_all(
    client: Redis, wire: RedisWire, append: Call
) -> None:
    before = str((await client.config_get("maxmemory"))["maxmemory"])
    await client.config_set("maxmemory", "1")
    try:
        commands = [pack("MULTI"), pack_script(Script.APPEND, append), pack_script(Script.APPEND, append), pack("EXEC")]
        replies = await wire.execute(commands)
        assert [isinstance(reply, Unavailable) for reply in replies] == [False, True, True, True]
    finally:
        await client.config_set("maxmemory", before)
    assert await client.exists(*append.keys) == 0


async def test_the_wire_answers_batches_in_order_with_errors_in_their_places(wire: RedisWire) -> None:
    batches = [[pack("ECHO", f"{b}-{n}") for n in range(50)] for b in range(20)]
    replies = await asyncio.gather(*(wire.execute(batch) for batch in batches))
    assert replies == [[f"{b}-{n}".encode() for n in range(50)] for b in range(20)]
    good, bad, also_good = await wire.execute([pack("ECHO", "a"), pack("NOSUCH"), pack("ECHO", "b")])
    assert (good, also_good) == (b"a", b"b")
    assert "ERR" in str(bad)


async def test_a_caller_of_the_wire_that_leaves_disturbs_nobody(wire: RedisWire) -> None:
    leaving = asyncio.create_task(wire.execute([pack("ECHO", "left")]))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await wire.execute([pack("ECHO", "here")]) == [b"here"]


async def test_a_killed_connection_fails_what_waits_at_once(client: Redis, wire: RedisWire) -> None:
    (client_id,) = await wire.execute([pack("CLIENT", "ID")])
    waiting = asyncio.create_task(wire.execute([pack("BLPOP", "nothing", 0)]))
    await asyncio.sleep(0)
    await client.client_kill_filter(_id=client_id)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(waiting, WITHIN_S)
    assert await wire.lost
    with pytest.raises(Unavailable):
        await wire.execute([pack("PING")])


async def test_a_silent_server_is_given_up_and_the_connection_with_it(plane: Plane, services: Services) -> None:
    wire = await RedisWire.connect(plane.redis_url, name="wire", silence_s=1.0)
    async with paused(services.redis):
        with pytest.raises(Unavailable, match="no reply within 1 s"):
            await asyncio.wait_for(wire.execute([pack("PING")]), WITHIN_S)
    assert wire.lost.done()


async def test_a_restarted_server_has_another_run_id(plane: Plane, wire: RedisWire, services: Services) -> None:
    await kill_and_start(services.redis)
    assert await asyncio.wait_for(wire.lost, WITHIN_S)

    async def connect_again() -> RedisWire | None:
        try:
            return await RedisWire.connect(plane.redis_url, name="wire")
        except Unavailable:
            return None

    again = await eventually(connect_again)
    assert again is not None
    assert len(again.run_id) == len(wire.run_id) == 40
    assert again.run_id != wire.run_id
    again.close()


async def test_a_wrong_password_and_a_wrong_url_are_told_apart(plane: Plane) -> None:
    with pytest.raises(Unavailable, match="WRONGPASS"):
        await RedisWire.connect(plane.redis_url.replace("redis://:", "redis://:x"), name="wire")
    with pytest.raises(Unavailable, match="NOAUTH"):
        await RedisWire.connect("redis://" + plane.redis_url.split("@")[1], name="wire")
    with pytest.raises(InvalidInput) as raised:
        await RedisWire.connect(plane.redis_url.replace("redis", "http"), name="wire")
    assert plane.redis_url.split("@")[0].split(":")[-1] not in str(raised.value)


async def test_the_database_of_the_url_is_used(plane: Plane, client: Redis) -> None:
    wire = await RedisWire.connect(plane.redis_url.removesuffix("/0") + "/3", name="wire")
    try:
        await wire.execute([pack("SET", plane.cluster, "3")])
        assert await client.get(plane.cluster) is None
    finally:
        await wire.execute([pack("DEL", plane.cluster)])
        wire.close()
