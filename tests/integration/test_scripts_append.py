"""APPEND against a real Redis: what lua/append.lua promises in its header."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from redis.exceptions import ResponseError

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import MAX_TRIMMED_ENTRIES, SESSIONS_TTL_MS
from pushcluster_contract.log_entry import ATTEMPT, LogEntry
from pushcluster_contract.outcomes import ReplyAddress, ReplyRequest
from pushcluster_contract.scripts import Script
from pushcluster_operator.children.redis import STREAM_NODE_BYTES
from pushcluster_runtime.redis.client import Argument, ScriptRunner, connect
from tests.support.appends import append_call
from tests.support.command_counts import count_calls
from tests.support.planes import Plane
from tests.support.waiting import eventually

DEMO: Final = Destination("queue", "demo")
DAY_MS: Final = 86_400_000
MANY: Final = 100
"""More sessions than any test has."""


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
        **attempt: Any,
    ) -> list[Any]:
        call = append_call(
            self.keys,
            self.user,
            DEMO,
            body,
            message_id=message_id,
            ttl_ms=ttl_ms,
            most=most,
            keep_ms=keep_ms,
            kept_delivered_ms=resume_ms,
            meta_ms=2 * keep_ms,
            known_ms=known_ms,
            reply="" if reply is None else reply.encode(),
            **attempt,
        )
        answer: list[Any] = await ScriptRunner(self.redis).run(Script.APPEND, call.keys, call.args)
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
    for headers, content_type in (('{"x-a":"1"}', "a/b"), ('{"x-a":"2"}', "c/d")):
        call = append_call(
            bench.keys, "alice", DEMO, "body", headers=headers, content_type=content_type, message_id="m"
        )
        answer = await ScriptRunner(bench.redis).run(Script.APPEND, call.keys, call.args)
    assert answer[1:] == [1, 0, b"", 0, b"a/b", b'{"x-a":"1"}']


async def test_another_body_under_a_known_message_id_is_told_and_changes_nothing(bench: Bench) -> None:
    first = await bench.append("one", "m")
    assert await bench.append("two", "m") == [first[0], 2, 0, b"", 0]
    assert await bench.bodies() == ["one"]


async def test_a_known_message_that_has_left_the_log_has_no_content_any_more(bench: Bench) -> None:
    first = await bench.append("one", "m")
    await bench.append("two", most=1)
    assert await bench.append("one", "m") == [first[0], 1, 0, b"", 0]


async def test_a_known_message_tells_whether_some_session_has_got_it_also_when_it_has_left_the_log(
    bench: Bench,
) -> None:
    one, two = [(await bench.append(body, body))[0] for body in ("one", "two")]
    await bench.move_cursor(one)
    assert (await bench.append("one", "one"))[:2] == [one, 4]
    assert (await bench.append("two", "two"))[:2] == [two, 1]
    await bench.append("three", most=1)
    assert await bench.append("one", "one") == [one, 4, 0, b"", 0]
    assert await bench.append("two", "two") == [two, 1, 0, b"", 0]


async def test_nobody_has_got_what_was_dropped_also_when_the_cursor_has_passed_it(bench: Bench) -> None:
    first, two, three = [(await bench.append(body, body))[0] for body in ("first", "two", "three")]
    await bench.move_cursor(first)
    await bench.append("four", most=1)
    five = (await bench.append("five", "five", most=1))[0]
    await bench.move_cursor(five)
    await bench.append("six", most=1)
    known = [await bench.append(body, body) for body in ("first", "two", "three", "five")]
    assert [(each[0], each[1]) for each in known] == [(first, 4), (two, 1), (three, 1), (five, 4)]
    await bench.append("seven", most=1)
    assert (await bench.append("first", "first"))[1] == 4


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
    await bench.append("x", "m", keep_ms=60_000, resume_ms=8_000, known_ms=30_000)
    assert 0 < await bench.redis.pttl(bench.log) <= 61_000
    assert 61_000 < await bench.redis.pttl(bench.meta) <= 121_000
    assert await bench.redis.pttl(bench.keys.destinations("alice")) > 121_000, "it outlives every meta"
    assert 0 < await bench.redis.pttl(bench.keys.message("alice", DEMO, "m")) <= 30_000


async def test_a_usual_append_makes_few_calls(bench: Bench) -> None:
    for _ in range(2):
        await bench.append()
    calls = await count_calls(bench.redis), await bench.append(), await count_calls(bench.redis)
    assert calls[2] - calls[0] == 6 + len(("EVALSHA", "INFO"))


async def test_lives_are_extended_once_in_an_eighth_of_the_window_and_last_as_much_longer(bench: Bench) -> None:
    async def append_after(ms: int) -> tuple[bool, bool]:
        """Append when the last tidying was so long ago. Return whether the lives of log and meta were extended."""
        now_s, now_us = await bench.redis.time()
        await bench.redis.hset(bench.meta, "tidied", now_s * 1_000 + now_us // 1_000 - ms)
        for key in (bench.log, bench.meta):
            await bench.redis.pexpire(key, 5_000)
        await bench.append(keep_ms=60_000, resume_ms=400_000)
        log, meta = await bench.redis.pttl(bench.log), await bench.redis.pttl(bench.meta)
        return 60_000 + 40_000 < log <= 60_000 + 50_000, 120_000 + 40_000 < meta <= 120_000 + 50_000

    await bench.append(keep_ms=60_000)
    assert await append_after(40_000) == (False, False)
    assert await append_after(50_000) == (True, True)
    assert await append_after(-40_000) == (True, True), "the clock of Redis went back"


async def test_the_log_lives_on_when_the_cursor_had_reached_its_end(bench: Bench) -> None:
    """Its life was shortened then: only what was delivered is in it."""
    await bench.move_cursor((await bench.append(keep_ms=2 * DAY_MS))[0])
    assert await bench.redis.pttl(bench.log) <= DAY_MS
    await bench.append("waits", keep_ms=2 * DAY_MS)
    assert await bench.redis.pttl(bench.log) > DAY_MS


async def test_a_log_that_is_gone_before_its_meta_begins_with_a_life_of_its_own(bench: Bench) -> None:
    await bench.append("delivered")
    await bench.redis.delete(bench.log)
    answer = await bench.append("new")
    assert answer[2] == 1, "nobody had got the first one"
    assert await bench.bodies() == ["new"]
    assert await bench.redis.pttl(bench.log) > DAY_MS


async def test_old_entries_leave_when_it_is_time_to_look_and_not_for_each_message(bench: Bench) -> None:
    old = (await bench.append("old", keep_ms=1_000))[0]
    await asyncio.sleep(0.01)
    await bench.append("next", keep_ms=1)
    assert await bench.bodies() == ["old", "next"]
    await bench.redis.hset(bench.meta, "tidied", 1)
    await asyncio.sleep(0.01)
    assert (await bench.append("last", keep_ms=1))[2] == 2
    assert await bench.bodies() == ["last"]
    assert old.endswith(b"-1")


async def test_what_waits_and_finds_no_room_is_counted_at_once(bench: Bench) -> None:
    """Delivered entries make room first, and are no loss."""
    first = (await bench.append(most=3))[0]
    await bench.move_cursor(first)
    assert [(await bench.append(most=3))[2] for _ in range(5)] == [0, 0, 0, 1, 1]
    assert [(await bench.append(most=2))[2]] == [2], "there is less room since"


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
    call = append_call(
        bench.keys,
        "alice",
        DEMO,
        b"\x00\xff\r\n",
        headers='{"x-ä":"ö"}',
        content_type="text/plain",
        message_id="mid",
    )
    await ScriptRunner(bench.redis).run(Script.APPEND, call.keys, call.args)
    (entry,) = await bench.entries()
    assert (entry.body, entry.content_type, entry.producer_message_id) == (b"\x00\xff\r\n", "text/plain", "mid")
    assert entry.headers == {"x-ä": "ö"}


async def test_a_key_of_the_wrong_kind_is_an_error_of_this_message_alone(bench: Bench) -> None:
    await bench.redis.set(bench.log, "not a stream")
    calls = [append_call(bench.keys, user, DEMO, "x") for user in ("alice", "bob")]
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
    await bench.redis.hincrby(bench.meta, "tidied", -3_600_000)
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


async def refused(bench: Bench, body: str, **attempt: Any) -> str:
    with pytest.raises(ResponseError) as raised:
        await bench.append(body, **attempt)
    return str(raised.value)


async def test_who_holds_an_older_token_than_the_last_one_that_appended_changes_nothing(bench: Bench) -> None:
    """Also with a message id: it must not be known afterwards."""
    await bench.append("1", token=5)
    await bench.append("2", token=7)
    assert "STALE" in await refused(bench, "late", token=6)
    assert "STALE" in await refused(bench, "late", message_id="m", token=5)
    assert await bench.bodies() == ["1", "2"]
    assert (await bench.append("3", message_id="m", token=7))[1] == 0


async def test_a_token_whose_counter_was_lost_is_the_newest_one_again(bench: Bench) -> None:
    await bench.append("1", token=5)
    await bench.redis.delete(bench.keys.fence(0))
    await bench.append("2", token=5)
    assert "STALE" in await refused(bench, "late", token=4)


async def take_token(bench: Bench, newest: int = 0) -> int:
    names = [bench.keys.token(0), bench.keys.fence(0)]
    return int(await ScriptRunner(bench.redis).run(Script.TAKE_TOKEN, names, [newest]))


async def test_tokens_only_go_up_also_after_their_keys_were_lost(bench: Bench) -> None:
    first = await take_token(bench)
    assert await take_token(bench) == first + 1

    async def goes_on_from_the_clock() -> bool:
        await bench.redis.delete(bench.keys.token(0))
        return await take_token(bench) > first + 1

    await eventually(goes_on_from_the_clock)


async def test_a_token_is_higher_than_what_the_channel_had_also_when_redis_has_lost_that(bench: Bench) -> None:
    kept = await take_token(bench)
    assert await take_token(bench, newest=kept + 5) == kept + 6
    assert await take_token(bench, newest=kept) == kept + 7, "an older one changes nothing"


async def test_a_token_is_higher_than_any_that_has_appended(bench: Bench) -> None:
    newest = await take_token(bench) + 1_000_000
    await bench.append("1", token=newest)
    assert await take_token(bench) == newest + 1


async def test_who_has_raised_the_fence_keeps_older_tokens_out_before_it_appends_itself(bench: Bench) -> None:
    async def raise_fence(token: int) -> int:
        return int(await ScriptRunner(bench.redis).run(Script.RAISE_FENCE, [bench.keys.fence(0)], [token]))

    await bench.append("1", token=5)
    assert [await raise_fence(token) for token in (5, 7, 7, 6)] == [1, 1, 1, 0]
    assert "STALE" in await refused(bench, "of who consumes again", token=5)
    assert await take_token(bench) >= 8
    await bench.append("2", token=7)
    assert await bench.bodies() == ["1", "2"]


async def test_an_attempt_made_again_finds_its_entry_and_appends_nothing(bench: Bench) -> None:
    made = {n: await bench.append(str(n), ttl_ms=60_000, attempt=f"5-{n}") for n in range(1, 40)}
    for n in (*range(1, 8), 20, 39, 18, 19, 2):  # in order, with gaps, and back
        again = await bench.append(str(n), ttl_ms=60_000, token=2, attempt=f"5-{n}")
        assert again == [made[n][0], 3, 0, b"", made[n][4], b"", b""]
    assert await bench.bodies() == [str(n) for n in range(1, 40)]
    assert (await bench.append("40", token=2, attempt="5-40"))[1] == 0


async def test_an_attempt_is_known_although_the_window_of_its_message_id_is_over(bench: Bench) -> None:
    first = await bench.append("1", "m", attempt="5-1")
    await bench.redis.delete(bench.keys.message("alice", DEMO, "m"))
    assert (await bench.append("1", "m", attempt="5-1"))[:2] == [first[0], 3]


async def test_an_attempt_of_another_channel_is_another_message(bench: Bench) -> None:
    await bench.append("1", attempt="5-9")
    assert (await bench.append("1", attempt="6-1"))[1] == 0
    assert await bench.bodies() == ["1", "1"]


async def test_what_a_restart_took_is_appended_again_and_what_is_left_is_not(bench: Bench) -> None:
    """An append-only file loses its end: the first attempts are there, and the meta knows the last of them."""
    for n in (1, 2):
        await bench.append(str(n), attempt=f"5-{n}")
    codes = [(await bench.append(str(n), token=2, attempt=f"5-{n}"))[1] for n in (1, 2, 3, 4)]
    assert codes == [3, 3, 0, 0]
    assert await bench.bodies() == ["1", "2", "3", "4"]


async def test_an_attempt_whose_entry_has_left_the_log_counts_as_made(bench: Bench) -> None:
    for n in (1, 2, 3):
        await bench.append(str(n), most=2, attempt=f"5-{n}")
    assert await bench.append("1", most=2, attempt="5-1") == [b"", 3, 0, b"", 0]
    await bench.redis.delete(bench.log)
    assert await bench.append("3", attempt="5-3") == [b"", 3, 0, b"", 0]
    assert await bench.bodies() == []


async def test_a_known_id_is_an_attempt_too_so_that_it_is_known_when_its_window_is_over(bench: Bench) -> None:
    first = await bench.append("1", "m", attempt="4-1")
    assert (await bench.append("1", "m", attempt="5-1"))[:2] == [first[0], 1]
    await bench.redis.delete(bench.keys.message("alice", DEMO, "m"))
    assert await bench.append("1", "m", attempt="5-1") == [b"", 3, 0, b"", 0]
    assert await bench.bodies() == ["1"]


async def test_a_known_id_that_comes_again_does_not_take_the_newest_attempt_back(bench: Bench) -> None:
    await bench.append("1", "m", attempt="4-1")
    for _ in range(2):
        await bench.append("1", "m", attempt="5-1")
        await bench.append("2", attempt="5-2")
    assert await bench.bodies() == ["1", "2"]


async def test_another_body_under_a_known_id_is_refused_again_when_it_comes_again(bench: Bench) -> None:
    first = await bench.append("1", "m", attempt="5-1")
    for _ in range(2):
        assert await bench.append("other", "m", attempt="5-2") == [first[0], 2, 0, b"", 0]
        await bench.append("3", attempt="5-3")
    assert await bench.bodies() == ["1", "3"]


async def test_a_message_that_redis_had_refused_is_not_appended_behind_later_ones(bench: Bench) -> None:
    await bench.append("1", attempt="5-1")
    await bench.append("3", attempt="5-3")
    assert "refused when it was tried before" in await refused(bench, "2", attempt="5-2")
    assert await bench.bodies() == ["1", "3"]


async def test_readers_that_know_nothing_of_attempts_read_the_entry_as_before(bench: Bench) -> None:
    await bench.append("1", attempt="5-1")
    ((id_, fields),) = await bench.redis.xrange(bench.log)
    assert fields == {b"b": b"1", ATTEMPT: b"5-1"}
    assert LogEntry.from_stream(id_, fields) == LogEntry.from_stream(id_, {b"b": b"1"})


class Sessions:
    """The sessions of a user, changed by the scripts as gateways change them."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._scripts = ScriptRunner(bench.redis)
        self._key = bench.keys.sessions(bench.user)

    async def register(self, sid: str) -> None:
        await self._scripts.run(Script.REGISTER, [self._key], [sid, "pod", SESSIONS_TTL_MS, MANY])

    async def subscribe(self, sid: str, destination: Destination = DEMO) -> None:
        keys, user = self._bench.keys, self._bench.user
        names = [keys.meta(user, destination), keys.log(user, destination), keys.destinations(user)]
        args: list[Argument] = [sid, "pod", str(destination), SESSIONS_TTL_MS, DAY_MS, MANY]
        await self._scripts.run(Script.SUBSCRIBE, [self._key, *names], args)

    async def unsubscribe(self, sid: str) -> None:
        await self._scripts.run(Script.UNSUBSCRIBE, [self._key], [sid, str(DEMO)])

    async def remove(self, sid: str) -> None:
        await self._scripts.run(Script.REMOVE_SESSION, [self._key], [sid, "pod"])

    async def subscribed(self) -> list[bytes]:
        """Who has the destination, from the entries themselves."""
        entries = await self._bench.redis.hgetall(self._key)
        return sorted(sid for sid, entry in entries.items() if str(DEMO).encode() in entry.split()[1:])


async def appended_for(bench: Bench) -> list[bytes]:
    return sorted(line.split()[0] for line in (await bench.append())[3].splitlines())


async def count_reads(bench: Bench) -> int:
    """How often all entries of some hash were read."""
    return int((await bench.redis.info("commandstats")).get("cmdstat_hgetall", {}).get("calls", 0))


async def test_the_entries_of_many_sessions_are_read_once_and_not_for_each_message(bench: Bench) -> None:
    sessions = Sessions(bench)
    for n in range(64):
        await sessions.subscribe(f"sid{n}")
    await asyncio.sleep(0.002)  # nothing is kept in the ms of a change
    before = await count_reads(bench)
    for _ in range(50):
        assert len(await appended_for(bench)) == 64
    assert await count_reads(bench) == before + 2, "by the first that found many, and by the next one for all others"
    assert 0 < await bench.redis.pttl(bench.keys.recipients("alice", DEMO)) <= 60_000


async def test_a_user_with_few_sessions_has_no_list_kept(bench: Bench) -> None:
    sessions = Sessions(bench)
    for n in range(7):
        await sessions.subscribe(f"sid{n}")
    await asyncio.sleep(0.002)
    assert len(await appended_for(bench)) == 7
    assert not await bench.redis.exists(bench.keys.recipients("alice", DEMO))


async def test_each_change_of_the_sessions_reaches_the_next_message(bench: Bench) -> None:
    sessions, rng = Sessions(bench), random.Random(7)
    sids = [f"sid{n}" for n in range(12)]
    for sid in sids:
        await sessions.subscribe(sid)
    changes = (sessions.subscribe, sessions.subscribe, sessions.register, sessions.unsubscribe, sessions.remove)
    for _ in range(400):
        await rng.choice(changes)(rng.choice(sids))
        for _ in range(rng.choice((1, 2))):
            assert await appended_for(bench) == await sessions.subscribed()
            await asyncio.sleep(rng.choice((0, 0, 0.0015)))


async def test_two_changes_within_one_ms_are_both_seen(bench: Bench) -> None:
    """A gateway of an older version changes the hash without knowing of any list that is kept."""
    sessions = Sessions(bench)
    for n in range(10):
        await sessions.subscribe(f"sid{n}")
    key = bench.keys.sessions("alice")
    for n in range(200):
        sid = f"late{n % 40}"
        await bench.redis.hset(key, sid, "pod")
        async with bench.redis.pipeline(transaction=True) as pipeline:
            pipeline.pexpire(key, SESSIONS_TTL_MS)
            call = append_call(bench.keys, "alice", DEMO, "body")
            pipeline.eval(Script.APPEND.source(), len(call.keys), *call.keys, *call.args)
            pipeline.hset(key, sid, f"pod {DEMO}")
            pipeline.pexpire(key, SESSIONS_TTL_MS)
            await pipeline.execute()
        assert sid.encode() in await appended_for(bench)
        await bench.redis.hdel(key, sid)
