"""The registry's scripts against a real Redis, and the removal of a whole gateway."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from redis.exceptions import ResponseError

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.keys import Keys, encode_member
from pushcluster_contract.limits import MAX_TRIMMED_ENTRIES, REMOVAL_BATCH_SESSIONS
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_runtime.redis.client import (
    Argument,
    Call,
    ScriptRunner,
    connect,
)
from pushcluster_runtime.redis.incarnation_removal import remove_incarnation
from tests.support.appends import append_call
from tests.support.planes import Plane

DEMO: Final = Destination("queue", "demo")
HERE: Final = Incarnation("pod", "0" * 16)
ELSEWHERE: Final = Incarnation("pod", "1" * 16)
TTL_MS: Final = 600_000


@dataclass
class Bench:
    redis: Any  # redis-py types replies as text or bytes or neither
    scripts: ScriptRunner
    keys: Keys

    async def run(self, script: Script, keys: list[str], *args: Argument) -> Any:
        return await self.scripts.run(script, keys, args)

    async def subscribe(
        self,
        sid: str,
        destination: Destination = DEMO,
        *,
        most: int = 64,
        without_queue: bool = False,
        given: str = "",
    ) -> list[Any]:
        keys = [
            self.keys.sessions("alice"),
            self.keys.meta("alice", destination),
            self.keys.log("alice", destination),
            self.keys.destinations("alice"),
        ]
        reply: list[Any] = await self.run(
            *(Script.SUBSCRIBE, keys, sid, str(HERE), str(destination), TTL_MS, 2 * TTL_MS, most),
            *(1 + without_queue, given),
        )
        return reply

    async def register(self, sid: str, entry: str, *, most: int = 64) -> int:
        return int(await self.run(Script.REGISTER, [self.keys.sessions("alice")], sid, entry, TTL_MS, most))

    async def entry(self, sid: str, user: str = "alice") -> SessionEntry | None:
        raw = await self.redis.hget(self.keys.sessions(user), sid)
        return None if raw is None else SessionEntry.parse(raw.decode())

    async def append(self, body: str) -> str:
        return str((await self._append(body))[0].decode())

    async def sessions_of_an_append(self) -> bytes:
        """Append a message, and return the sessions that are to get it."""
        return bytes((await self._append("m"))[3])

    async def _append(self, body: str) -> list[Any]:
        call = append_call(self.keys, "alice", DEMO, body, keep_ms=TTL_MS, meta_ms=TTL_MS)
        reply: list[Any] = await self.run(Script.APPEND, [*call.keys], *call.args)
        return reply

    async def connect_sessions(self, incarnation: Incarnation, count: int) -> list[tuple[str, str]]:
        """Register sessions of as many users, as a gateway does."""
        sessions = [(f"user{n}", session_id(secrets.token_bytes(17))) for n in range(count)]
        await self.redis.zadd(self.keys.gateways, {str(incarnation): 1})
        await self.redis.sadd(self.keys.gateway(incarnation), *(encode_member(user, sid) for user, sid in sessions))
        entry = SessionEntry(incarnation).encode()
        calls = [Call([self.keys.sessions(user)], [sid, entry, TTL_MS, 64]) for user, sid in sessions]
        assert set(await self.scripts.run_many(Script.REGISTER, calls)) == {1}
        return sessions

    async def remove(self, incarnation: Incarnation) -> int:
        return await remove_incarnation(self.redis, self.scripts, self.keys, incarnation)


@pytest.fixture
async def bench(plane: Plane) -> AsyncIterator[Bench]:
    client = connect(plane.redis_url, name="scripts")
    yield Bench(client, ScriptRunner(client), Keys(plane.cluster))
    await client.aclose()


async def test_a_first_subscription_finds_an_empty_log(bench: Bench) -> None:
    born, ms, seq, cursor, sent, oldest, now, held = await bench.subscribe("s1", given="5-5")
    assert (born, ms, seq, cursor, sent, oldest, held) == (0, 0, 0, b"0-0", b"0-0", 1, b"")
    assert now > 1_700_000_000_000
    assert await bench.entry("s1") == SessionEntry(HERE, (DEMO,))


async def test_a_subscription_learns_how_far_the_log_is(bench: Bench) -> None:
    ids = [await bench.append(body) for body in "abc"]
    meta, log = bench.keys.meta("alice", DEMO), bench.keys.log("alice", DEMO)
    await bench.run(Script.ADVANCE_CURSOR, [meta, log], ids[0], ids[1], TTL_MS, MAX_TRIMMED_ENTRIES)
    await bench.redis.xtrim(log, maxlen=2, approximate=False)
    born, ms, seq, cursor, sent, oldest, now, held = await bench.subscribe("s1")
    assert 0 < born <= ms <= now
    assert (seq, cursor.decode(), sent.decode(), oldest, held) == (3, ids[0], ids[1], 2, b"")


async def test_a_subscription_learns_which_entry_comes_before_the_id_that_its_client_gave(bench: Bench) -> None:
    ids = [await bench.append(body) for body in "abcd"]
    await bench.redis.xtrim(bench.keys.log("alice", DEMO), maxlen=3, approximate=False)
    for given, held in [
        *((ids[0], ""), (ids[1], ids[1]), (ids[2], ids[2]), (ids[3], ids[3])),
        *((f"{10**15}-1", ids[3]), ("9999999999999999-9999999999999999", ids[3]), ("0-0", ""), ("1-9", "")),
    ]:
        assert (await bench.subscribe("s1", given=given))[7].decode() == held


async def test_destinations_are_added_once_and_taken_out_one_by_one(bench: Bench) -> None:
    news, demo_2 = Destination("topic", "demo"), Destination("queue", "demo-2")
    for destination in (DEMO, news, demo_2, DEMO):
        await bench.subscribe("s1", destination)
    assert await bench.entry("s1") == SessionEntry(HERE, (DEMO, news, demo_2))
    sessions = [bench.keys.sessions("alice")]
    assert await bench.run(Script.UNSUBSCRIBE, sessions, "s1", str(DEMO)) == 1
    assert await bench.run(Script.UNSUBSCRIBE, sessions, "s1", str(DEMO)) == 0
    assert await bench.run(Script.UNSUBSCRIBE, sessions, "nobody", str(DEMO)) == 0
    assert await bench.entry("s1") == SessionEntry(HERE, (news, demo_2))


async def test_an_entry_says_for_each_destination_whether_it_has_a_queue_and_append_tells_it(bench: Bench) -> None:
    news, demo_2 = Destination("topic", "demo"), Destination("queue", "demo-2")
    key = bench.keys.sessions("alice")
    for destination in (news, DEMO, demo_2):
        await bench.subscribe("s1", destination, without_queue=True)
    assert await bench.redis.hget(key, "s1") == f"{HERE} {news} {news} {DEMO} {DEMO} {demo_2} {demo_2}".encode()
    assert await bench.sessions_of_an_append() == f"s1 {HERE} -".encode()
    await bench.subscribe("s1", demo_2)
    await bench.subscribe("s1", DEMO)
    assert await bench.entry("s1") == SessionEntry(HERE, (news, DEMO, demo_2), frozenset({news}))
    assert await bench.sessions_of_an_append() == f"s1 {HERE}".encode()
    await bench.subscribe("s1", demo_2, without_queue=True)
    assert await bench.sessions_of_an_append() == f"s1 {HERE}".encode(), "its name only begins with the same letters"
    await bench.subscribe("s1", DEMO, without_queue=True)
    assert await bench.run(Script.UNSUBSCRIBE, [key], "s1", str(DEMO)) == 1
    assert await bench.entry("s1") == SessionEntry(HERE, (news, demo_2), frozenset({news, demo_2}))


async def test_a_user_has_no_more_sessions_than_allowed(bench: Bench) -> None:
    assert await bench.register("s1", str(HERE), most=2) == 1
    await bench.subscribe("s2", most=2)
    assert await bench.register("s3", str(HERE), most=2) == 0
    with pytest.raises(ResponseError, match="TOOMANYSESSIONS"):
        await bench.subscribe("s3", most=2)
    assert await bench.register("s1", f"{HERE} {DEMO}", most=2) == 1
    await bench.subscribe("s2", Destination("topic", "x"), most=2)
    assert await bench.redis.hlen(bench.keys.sessions("alice")) == 2


async def test_the_sessions_of_a_user_end_by_themselves(bench: Bench) -> None:
    await bench.register("s1", str(HERE))
    assert 0 < await bench.redis.pttl(bench.keys.sessions("alice")) <= TTL_MS


async def test_a_missing_lease_is_made_and_told(bench: Bench) -> None:
    async def renew() -> int:
        return int(await bench.run(Script.RENEW_LEASE, [bench.keys.gateways], str(HERE), 8_000, 60_000))

    assert [await renew(), await renew()] == [0, 1]
    await bench.redis.zrem(bench.keys.gateways, str(HERE))
    before, _ = await bench.redis.time()
    assert await renew() == 0
    after, _ = await bench.redis.time()
    expiry = await bench.redis.zscore(bench.keys.gateways, str(HERE))
    assert before * 1_000 <= expiry - 8_000 < (after + 1) * 1_000


async def test_a_lease_that_ran_out_long_ago_is_as_good_as_missing(bench: Bench) -> None:
    """Others may have taken the gateway for lost, and removed sessions of it."""
    seconds, _ = await bench.redis.time()
    for expired_s, answer in ((50, 1), (70, 0)):
        await bench.redis.zadd(bench.keys.gateways, {str(HERE): (seconds - expired_s) * 1_000})
        assert await bench.run(Script.RENEW_LEASE, [bench.keys.gateways], str(HERE), 8_000, 60_000) == answer
        assert await bench.redis.zscore(bench.keys.gateways, str(HERE)) > seconds * 1_000


async def test_removing_a_gateway_takes_all_of_its_sessions_and_none_of_another(bench: Bench) -> None:
    mine = await bench.connect_sessions(HERE, REMOVAL_BATCH_SESSIONS * 2 + 17)
    others = await bench.connect_sessions(ELSEWHERE, 5)
    assert await bench.remove(HERE) == len(mine)
    assert [await bench.entry(sid, user) for user, sid in mine if await bench.entry(sid, user)] == []
    assert all([await bench.entry(sid, user) for user, sid in others])
    assert await bench.redis.exists(bench.keys.gateway(HERE)) == 0
    assert await bench.redis.zrange(bench.keys.gateways, 0, -1) == [str(ELSEWHERE).encode()]


async def test_a_session_that_another_gateway_holds_now_stays(bench: Bench) -> None:
    (moved, left) = await bench.connect_sessions(HERE, 2)
    await bench.redis.hset(bench.keys.sessions(moved[0]), moved[1], SessionEntry(ELSEWHERE, (DEMO,)).encode())
    assert await bench.remove(HERE) == 1
    assert await bench.entry(moved[1], moved[0]) == SessionEntry(ELSEWHERE, (DEMO,))
    assert await bench.entry(left[1], left[0]) is None


async def test_the_lease_goes_after_the_last_session(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that lives writes its sessions back once it misses its lease: none may be deleted after that."""
    await bench.connect_sessions(HERE, 3)

    async def interrupted(*_: object) -> int:
        raise ConnectionError("the operator died here")

    monkeypatch.setattr(bench.redis, "srem", interrupted)
    with pytest.raises(ConnectionError):
        await bench.remove(HERE)
    assert await bench.redis.zscore(bench.keys.gateways, str(HERE)) is not None
    monkeypatch.undo()
    assert await bench.remove(HERE) == 0
    assert await bench.redis.zscore(bench.keys.gateways, str(HERE)) is None
    assert await bench.redis.exists(bench.keys.gateway(HERE)) == 0


async def test_what_a_gateway_said_of_rabbitmq_goes_with_it_and_nobody_elses_word(bench: Bench) -> None:
    await bench.connect_sessions(HERE, 1)
    await bench.redis.hset(bench.keys.without_broker, mapping={str(HERE): 3_000, str(ELSEWHERE): 4_000})
    await bench.remove(HERE)
    assert await bench.redis.hgetall(bench.keys.without_broker) == {str(ELSEWHERE).encode(): b"4000"}


async def test_members_that_nobody_can_read_do_not_stop_a_removal(bench: Bench) -> None:
    await bench.connect_sessions(HERE, 1)
    await bench.redis.sadd(bench.keys.gateway(HERE), "garbage", b"\xff\xfe", "!!! " + "a" * 26)
    assert await bench.remove(HERE) == 1
    assert await bench.redis.exists(bench.keys.gateway(HERE)) == 0


async def test_removing_what_is_not_there_removes_nothing(bench: Bench) -> None:
    assert await bench.remove(HERE) == 0


async def test_a_log_that_a_subscription_keeps_alive_can_still_be_found(bench: Bench) -> None:
    destinations = bench.keys.destinations("alice")
    await bench.subscribe("s1")
    assert not await bench.redis.exists(destinations), "without a log there is nothing to find"
    await bench.append("a")
    await bench.redis.delete(destinations)
    await bench.subscribe("s1")
    assert await bench.redis.smembers(destinations) == {b"/queue/demo"}
    assert await bench.redis.pttl(destinations) >= await bench.redis.pttl(bench.keys.meta("alice", DEMO))
