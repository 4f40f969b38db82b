"""The operator's view of the registry of sessions, against a real Redis."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.keys import Keys, encode_member
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_operator.sweep.registry import MAX_FORGOTTEN, RegistryClient
from pushcluster_runtime.redis.client import ScriptRunner, connect
from tests.support.planes import Plane

OLD, NEW = Incarnation("pod-1", "a" * 16), Incarnation("pod-2", "b" * 16)


class Gateway:
    """Writes what a gateway process writes."""

    def __init__(self, plane: Plane) -> None:
        self.client = connect(plane.redis_url, name="test")
        self.scripts = ScriptRunner(self.client)
        self.keys = Keys(plane.cluster)

    async def hold(self, incarnation: Incarnation, user: str, sid: str) -> None:
        await self.scripts.run(Script.RENEW_LEASE, [self.keys.gateways], [str(incarnation), 8_000, 60_000])
        await self.client.sadd(self.keys.gateway(incarnation), encode_member(user, sid))
        entry = SessionEntry(incarnation).encode()
        await self.scripts.run(Script.REGISTER, [self.keys.sessions(user)], [sid, entry, 600_000, 64])

    async def sessions(self, user: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], await self.client.hgetall(self.keys.sessions(user)))


@pytest.fixture
async def gateway(plane: Plane) -> AsyncIterator[Gateway]:
    gateway = Gateway(plane)
    yield gateway
    await gateway.client.aclose()


@pytest.fixture
async def registry(plane: Plane) -> AsyncIterator[RegistryClient]:
    registry = RegistryClient(plane.cluster, plane.redis_url)
    yield registry
    await registry.close()


def sid(number: int) -> str:
    return session_id(number.to_bytes(17))


async def test_leases_come_with_redis_time_and_strangers_are_passed_over(
    gateway: Gateway, registry: RegistryClient
) -> None:
    await gateway.hold(OLD, "alice", sid(1))
    await gateway.client.zadd(gateway.keys.gateways, {"no incarnation": 1})
    reading = await registry.read()
    (lease,), now_ms = reading.leases, reading.now_ms
    assert lease.incarnation == OLD
    assert lease.is_live(now_ms)
    assert not lease.is_live(now_ms + 8_000)


async def test_a_redis_that_keeps_no_file_is_seen(gateway: Gateway, registry: RegistryClient) -> None:
    assert (await registry.read()).append_only
    await gateway.client.config_set("appendonly", "no")
    try:
        assert not (await registry.read()).append_only
    finally:
        await gateway.client.config_set("appendonly", "yes")


async def test_another_run_of_redis_can_be_told_from_this_one(gateway: Gateway, registry: RegistryClient) -> None:
    server = await gateway.client.info("server")
    assert (await registry.read()).run_id == str(server["run_id"])


async def test_what_gateways_say_of_rabbitmq_comes_with_their_leases(
    gateway: Gateway, registry: RegistryClient
) -> None:
    key = gateway.keys.without_broker
    assert (await registry.read()).without_broker == {}
    await gateway.hold(OLD, "alice", sid(1))
    await gateway.client.hset(key, mapping={str(OLD): 17, str(NEW): 18, "no incarnation": 19})
    assert (await registry.read()).without_broker == {OLD: 17, NEW: 18}
    await registry.forget_without_broker([NEW])
    assert await gateway.client.hkeys(key) == [str(OLD).encode(), b"no incarnation"]


async def test_no_more_than_a_bounded_number_of_gateways_is_forgotten_at_once(
    gateway: Gateway, registry: RegistryClient
) -> None:
    gone = [Incarnation("pod-1", f"{number:016x}") for number in range(MAX_FORGOTTEN + 1)]
    await gateway.client.hset(gateway.keys.without_broker, mapping={str(each): 1 for each in gone})
    await registry.forget_without_broker(gone)
    assert (await registry.read()).without_broker == {gone[-1]: 1}


async def test_what_redis_holds_is_seen_beside_its_limit(gateway: Gateway, registry: RegistryClient) -> None:
    before = str((await gateway.client.config_get("maxmemory"))["maxmemory"])
    await gateway.client.config_set("maxmemory", 300_000_000)
    try:
        memory = (await registry.read()).memory
        assert (memory.limit, memory.used < 300_000_000) == (300_000_000, True)
        await gateway.client.config_set("maxmemory", memory.used // 2)
        assert (await registry.read()).memory.is_full(was_full=False)
    finally:
        await gateway.client.config_set("maxmemory", before)


async def test_sessions_are_counted_over_processes(gateway: Gateway, registry: RegistryClient) -> None:
    for number in range(3):
        await gateway.hold(OLD, f"user-{number}", sid(number))
    await gateway.hold(NEW, "bob", sid(9))
    assert await registry.count_sessions([OLD, NEW]) == 4
    assert await registry.count_sessions([]) == 0


async def test_a_removal_takes_the_sessions_and_the_lease_of_one_process_alone(
    gateway: Gateway, registry: RegistryClient
) -> None:
    for number in range(450):
        await gateway.hold(OLD, f"user-{number}", sid(number))
    await gateway.hold(NEW, "user-7", sid(1_000))
    await gateway.client.hset(gateway.keys.without_broker, mapping={str(OLD): 17, str(NEW): 18})
    assert await registry.remove(OLD) == 450
    assert await gateway.sessions("user-8") == {}
    assert await gateway.sessions("user-7") == {sid(1_000).encode(): str(NEW).encode()}
    reading = await registry.read()
    assert [lease.incarnation for lease in reading.leases] == [NEW]
    assert reading.without_broker == {NEW: 18}
    assert await registry.remove(OLD) == 0


async def test_an_entry_that_another_process_took_over_meanwhile_is_never_removed(
    gateway: Gateway, registry: RegistryClient
) -> None:
    await gateway.hold(OLD, "alice", sid(1))
    await gateway.hold(NEW, "alice", sid(1))
    assert await registry.remove(OLD) == 0
    assert await gateway.sessions("alice") == {sid(1).encode(): str(NEW).encode()}


async def test_a_redis_that_is_not_there_is_unavailable() -> None:
    registry = RegistryClient("team.demo", "redis://:x@127.0.0.1:1/0")
    with pytest.raises(Unavailable):
        await registry.read()
    with pytest.raises(Unavailable):
        await registry.remove(OLD)
    await registry.close()
