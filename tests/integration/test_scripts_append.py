"""APPEND against a real Redis: what lua/append.lua promises in its header."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import MAX_TRIMMED_ENTRIES
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.outcomes import ReplyAddress, ReplyRequest
from pushcluster_contract.scripts import Script
from pushcluster_operator.children.redis import STREAM_NODE_BYTES
from pushcluster_runtime.redis.client import Call, ScriptRunner, connect
from tests.support.planes import Plane
from tests.support.waiting import eventually

DEMO: Final = Destination("queue", "demo")
DAY_MS: Final = 86_400_000


@dataclass
class Bench:
    """One user's log."""

    redis: Any  # redis-py types replies as text or bytes or neither
    keys: Keys
    user: str = "alice"

    async def append(
        self,
        body: str = "x",
        message_id: str = "",
        *,
        ttl_ms: int = 0,
        most: int = 1_000,
        keep_ms: int = DAY_MS,
        resume_ms: int = 120_000,
        known_ms: int = 600_000,
        reply: ReplyAddress | None = None,
    ) -> list[Any]:
        keys = [self.meta, self.log, self.keys.sessions(self.user), self.keys.destinations(self.user)]
        if message_id:
            keys.append(self.keys.message(self.user, DEMO, message_id))
        args: list[str | int] = [body, "", "", message_id, ttl_ms, most, keep_ms, resume_ms, 2 * keep_ms, known_ms]
        args += [str(DEMO), *([] if reply is None else [reply.encode()])]
        answer: list[Any] = await ScriptRunner(self.redis).run(Script.APPEND, keys, args)
        return answer

    @property
    def meta(self) -> str:
        return self.keys.meta(self.user, DEMO)

    @property
    def log(self) -> str:
        return self.keys.log(self.user, DEMO)

    async def entries(self) -> list[LogEntry]:
        return [LogEntry.from_stream(id_, fields) for id_, fields in await self.redis.xrange(self.log)]

    async def bodies(self) -> list[str]:
        return [entry.body.decode() for entry in await self.entries()]

    async def move_cursor(self, stream_id: bytes) -> None:
        args: list[str | bytes | int] = [stream_id, stream_id, DAY_MS, MAX_TRIMMED_ENTRIES]
        assert await ScriptRunner(self.redis).run(Script.ADVANCE_CURSOR, [self.meta, self.log], args) == 1


@pytest.fixture
async def bench(plane: Plane) -> AsyncIterator[Bench]:
    client = connect(plane.redis_url, name="scripts")
    yield Bench(client, Keys(plane.cluster))
    await client.aclose()


async def test_sequence_numbers_start_at_one_and_have_no_hole(bench: Bench) -> None:
    ids = [StreamId.parse((await bench.append(str(n)))[0].decode()) for n in range(5)]
    assert [each.seq for each in ids] == [1, 2, 3, 4, 5]
    assert ids == sorted(ids)
    assert [entry.id for entry in await bench.entries()] == ids
    assert await bench.bodies() == ["0", "1", "2", "3", "4"]


async def test_the_reply_has_the_sessions_with_the_destination_and_nothing_else_of_them(bench: Bench) -> None:
    """What clients subscribe to beside it is theirs to choose, up to 70 kilobytes a user: it must not travel."""
    entries = {
        "alone": "one /queue/demo",
        "among": "two /queue/x /queue/demo /topic/demo",
        "other": "three /queue/demo-2 /topic/demo",
        "fresh": "four",
    }
    await bench.redis.hset(bench.keys.sessions("alice"), mapping=entries)
    _, known, dropped, sessions, expires = await bench.append()
    assert (known, dropped, expires) == (0, 0, 0)
    assert sorted(sessions.splitlines()) == [b"alone one", b"among two"]


async def test_a_known_message_id_is_not_appended_again_and_keeps_its_stream_id(bench: Bench) -> None:
    first = await bench.append("one", "m", ttl_ms=60_000)
    await bench.append("two")
    again = await bench.append("one", "m", ttl_ms=60_000)
    assert again[:2] == [first[0], 1]
    assert again[4] == first[4] > 0
    assert await bench.bodies() == ["one", "two"]


async def test_a_known_message_id_still_tells_where_the_user_is(bench: Bench) -> None:
    await bench.append("one", "m")
    await bench.redis.hset(bench.keys.sessions("alice"), "sid", "incarnation /queue/demo")
    assert (await bench.append("one", "m"))[3] == b"sid incarnation"


async def test_a_known_message_id_tells_what_the_log_has_beside_the_body(bench: Bench) -> None:
    keys = [bench.meta, bench.log, bench.keys.sessions("alice"), bench.keys.destinations("alice")]
    keys.append(bench.keys.message("alice", DEMO, "m"))
    rest: list[str | int] = ["m", 0, 10, DAY_MS, 1_000, DAY_MS, 60_000, str(DEMO)]
    for headers, content_type in (('{"x-a":"1"}', "a/b"), ('{"x-a":"2"}', "c/d")):
        answer = await ScriptRunner(bench.redis).run(Script.APPEND, keys, ["body", headers, content_type, *rest])
    assert answer[1:] == [1, 0, b"", 0, b"a/b", b'{"x-a":"1"}']


async def test_another_body_under_a_known_message_id_is_told_and_changes_nothing(bench: Bench) -> None:
    first = await bench.append("one", "m")
    assert await bench.append("two", "m") == [first[0], 2, 0, b"", 0]
    assert await bench.bodies() == ["one"]


async def test_a_known_message_that_has_left_the_log_has_no_content_any_more(bench: Bench) -> None:
    first = await bench.append("one", "m")
    await bench.append("two", most=1)
    assert await bench.append("one", "m") == [first[0], 1, 0, b"", 0]


async def test_the_log_keeps_the_newest_and_counts_each_dropped_message_once(bench: Bench) -> None:
    dropped = [(await bench.append(str(n), most=3))[2] for n in range(6)]
    assert dropped == [0, 0, 0, 1, 1, 1]
    assert await bench.bodies() == ["3", "4", "5"]


async def test_what_somebody_has_got_is_not_counted_as_dropped(bench: Bench) -> None:
    ids = [(await bench.append(str(n), most=3))[0] for n in range(3)]
    await bench.move_cursor(ids[1])
    dropped = [(await bench.append(str(n), most=3))[2] for n in range(3, 6)]
    assert dropped == [0, 0, 1]


async def test_an_undelivered_message_leaves_after_its_time_and_is_counted(bench: Bench) -> None:
    await bench.redis.xadd(bench.log, {"b": "of the year 2001"}, id="1000000000000-1")
    await bench.redis.hset(bench.meta, mapping={"ms": 1_000_000_000_000, "seq": 1})
    assert (await bench.append("new", keep_ms=DAY_MS))[2] == 1
    assert await bench.bodies() == ["new"]


async def test_a_delivered_message_leaves_after_the_resume_window(bench: Bench) -> None:
    """All but those of the cursor's own millisecond: they leave when the cursor moves on."""
    first = StreamId.parse((await bench.append("delivered"))[0].decode())

    async def append_later() -> bytes:
        stream_id: bytes = (await bench.append("at the cursor"))[0]
        return stream_id if StreamId.parse(stream_id.decode()).ms > first.ms else b""

    await bench.move_cursor(await eventually(append_later))
    await bench.append("waiting")

    async def gone() -> bool:
        await bench.append("new", resume_ms=1)
        return "delivered" not in await bench.bodies()

    await eventually(gone)
    assert {"at the cursor", "waiting"} <= set(await bench.bodies())


async def test_an_expiration_is_kept_with_the_entry(bench: Bench) -> None:
    reply = await bench.append("x", ttl_ms=5_000)
    (entry,) = await bench.entries()
    assert reply[4] == entry.expires_ms
    assert entry.expires_ms == entry.id.ms + 5_000


async def test_a_clock_that_goes_back_does_not_go_back_in_ids(bench: Bench) -> None:
    await bench.append("before")
    future = 4_102_444_800_000
    await bench.redis.hset(bench.meta, "ms", future)
    assert (await bench.append("after"))[0] == f"{future}-2".encode()
    assert await bench.bodies() == ["before", "after"]


async def test_the_birth_of_a_log_is_noted_once(bench: Bench) -> None:
    await bench.append()
    born = await bench.redis.hget(bench.meta, "born")
    await bench.append()
    assert await bench.redis.hget(bench.meta, "born") == born


async def test_every_key_of_a_user_ends_by_itself(bench: Bench) -> None:
    await bench.append("x", "m", keep_ms=60_000, known_ms=30_000)
    assert 0 < await bench.redis.pttl(bench.log) <= 60_000
    assert 60_000 < await bench.redis.pttl(bench.meta) <= 120_000
    assert await bench.redis.pttl(bench.keys.destinations("alice")) > 120_000, "it outlives every meta"
    assert 0 < await bench.redis.pttl(bench.keys.message("alice", DEMO, "m")) <= 30_000


async def test_a_message_id_is_known_for_its_whole_window_after_each_use(bench: Bench) -> None:
    """A message that comes again and again does not end as a second one."""
    await bench.append("x", "m", known_ms=1_000)
    await bench.append("x", "m", known_ms=600_000)
    assert await bench.redis.pttl(bench.keys.message("alice", DEMO, "m")) > 1_000


async def test_a_message_id_is_forgotten_after_its_window_however_long_the_log_is_kept(bench: Bench) -> None:
    await bench.append("x", "m", known_ms=1)

    async def forgotten() -> bool:
        return not await bench.redis.exists(bench.keys.message("alice", DEMO, "m"))

    await eventually(forgotten)
    assert (await bench.append("x", "m"))[1] == 0
    assert await bench.bodies() == ["x", "x"]


async def test_headers_content_type_and_message_id_are_read_back(bench: Bench) -> None:
    keys = [bench.meta, bench.log, bench.keys.sessions("alice"), bench.keys.destinations("alice")]
    keys.append(bench.keys.message("alice", DEMO, "mid"))
    args: list[str | bytes | int] = [
        b"\x00\xff\r\n", '{"x-ä":"ö"}', "text/plain", "mid", 0, 10, DAY_MS, 1_000, DAY_MS, 1_000, str(DEMO),
    ]  # fmt: skip
    await ScriptRunner(bench.redis).run(Script.APPEND, keys, args)
    (entry,) = await bench.entries()
    assert (entry.body, entry.content_type, entry.producer_message_id) == (b"\x00\xff\r\n", "text/plain", "mid")
    assert entry.headers == {"x-ä": "ö"}


async def test_a_key_of_the_wrong_kind_is_an_error_of_this_message_alone(bench: Bench) -> None:
    await bench.redis.set(bench.log, "not a stream")
    calls = [
        Call(
            [bench.keys.meta(u, DEMO), bench.keys.log(u, DEMO), bench.keys.sessions(u), bench.keys.destinations(u)],
            ["x", "", "", "", 0, 9, 9, 9, 9, 9, str(DEMO)],
        )
        for u in ("alice", "bob")
    ]
    wrong, right = await ScriptRunner(bench.redis).run_many(Script.APPEND, calls)
    assert "WRONGTYPE" in str(wrong)
    assert right[0].endswith(b"-1")


async def forget(bench: Bench) -> int:
    keys = [bench.meta, bench.log, bench.keys.destinations("alice")]
    return int(await ScriptRunner(bench.redis).run(Script.FORGET, keys, [str(DEMO)]))


async def keys_of_alice(bench: Bench) -> set[str]:
    prefix = bench.meta.split("meta")[0]
    return {key.decode().removeprefix(prefix).split(":")[0] async for key in bench.redis.scan_iter(f"{prefix}*")}


async def test_a_users_destinations_can_be_found_without_searching(bench: Bench) -> None:
    await bench.append("a")
    await bench.append("b")
    assert await bench.redis.smembers(bench.keys.destinations("alice")) == {b"/queue/demo"}


async def test_the_set_of_destinations_is_renewed_by_a_log_that_is_used_for_long(bench: Bench) -> None:
    await bench.append("a")
    destinations = bench.keys.destinations("alice")
    await bench.redis.delete(destinations)
    await bench.append("b")
    assert not await bench.redis.exists(destinations), "not for every message"
    await bench.redis.hincrby(bench.meta, "ms", -2 * 3_600_000)
    await bench.append("c")
    assert await bench.redis.smembers(destinations) == {b"/queue/demo"}


async def test_what_is_forgotten_leaves_nothing_but_keys_that_mean_nothing(bench: Bench) -> None:
    await bench.append("a", "m1")
    assert await forget(bench) == 1
    assert await keys_of_alice(bench) == {"id"}
    assert await forget(bench) == 0


async def test_a_message_id_from_before_the_forgetting_is_not_known_any_more(bench: Bench) -> None:
    await bench.append("a", "m1")
    await forget(bench)
    await bench.append("other")  # the new log is there already
    stream_id, known, *_ = await bench.append("a again", "m1")
    assert known == 0
    assert StreamId.parse(stream_id.decode()).seq == 2
    assert await bench.bodies() == ["other", "a again"]
    assert (await bench.append("a again", "m1"))[:2] == [stream_id, 1]


async def test_a_message_id_is_known_from_the_first_moment_of_a_log(bench: Bench) -> None:
    first = await bench.append("a", "m1")
    assert (await bench.append("a", "m1"))[:2] == [first[0], 1]


async def test_an_entry_says_who_is_to_answer_its_producer(bench: Bench) -> None:
    sessions = bench.keys.sessions("alice")
    await bench.redis.hset(sessions, "here", f"pod.{'0' * 16} /queue/other {DEMO}")
    await bench.redis.hset(sessions, "elsewhere", f"pod.{'0' * 16} /queue/demo-2")
    address = ReplyAddress("amq.gen-x", 'c 1\n"ö')
    await bench.append("a", reply=address)
    await bench.append("b")
    asking, silent = await bench.entries()
    assert ReplyRequest.parse(asking.reply) == ReplyRequest(address, ("here",))
    assert silent.reply == ""


async def test_an_entry_that_nobody_gets_now_asks_nobody_to_answer(bench: Bench) -> None:
    await bench.append("a", reply=ReplyAddress("q"))
    assert [entry.reply for entry in await bench.entries()] == [""]


async def test_a_log_of_one_message_takes_a_third_of_what_redis_sets_aside_by_itself(bench: Bench) -> None:
    """Most users have few: memory for four kilobytes of messages each would fill a Redis with nothing."""
    assert await bench.redis.config_get("stream-node-max-bytes") == {"stream-node-max-bytes": str(STREAM_NODE_BYTES)}
    await bench.append("x" * 200)
    assert await bench.redis.memory_usage(bench.log) < 1_800
