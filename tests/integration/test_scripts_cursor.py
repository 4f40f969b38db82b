"""ADVANCE_CURSOR against a real Redis: how far a user has got, and what leaves his log then."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import MAX_TRIMMED_ENTRIES
from pushcluster_contract.scripts import Script
from pushcluster_runtime.redis.client import Argument, ScriptRunner, connect
from tests.support.appends import append_call
from tests.support.command_counts import count_calls
from tests.support.planes import Plane
from tests.support.waiting import eventually

DEMO: Final = Destination("queue", "demo")
DAY_MS: Final = 86_400_000
LONG_AGO_MS: Final = 1_000_000_000_000


@dataclass
class Bench:
    """The log of alice."""

    redis: Any  # redis-py types replies as text or bytes or neither
    scripts: ScriptRunner
    meta: str
    log: str

    async def fill(self, count: int, ms: int = LONG_AGO_MS) -> list[str]:
        """Write entries of one moment, as APPEND would have written them then; return their ids."""
        ids = [f"{ms}-{n + 1}" for n in range(count)]
        async with self.redis.pipeline(transaction=False) as pipeline:
            for stream_id in ids:
                pipeline.xadd(self.log, {"b": "x"}, id=stream_id)
            pipeline.hset(self.meta, mapping={"ms": ms, "seq": count, "born": ms})
            await pipeline.execute()
        return ids

    async def append(self, keys: Keys) -> str:
        call = append_call(keys, "alice", DEMO, "new", most=100_000, kept_delivered_ms=DAY_MS, meta_ms=DAY_MS)
        reply = await self.scripts.run(Script.APPEND, call.keys, call.args)
        return str(reply[0].decode())

    async def advance(self, cursor: str, sent: str = "0-0", *, kept_ms: int = 60_000) -> int:
        args: list[Argument] = [cursor, sent, kept_ms, MAX_TRIMMED_ENTRIES]
        return int(await self.scripts.run(Script.ADVANCE_CURSOR, [self.meta, self.log], args))

    async def left(self) -> list[str]:
        return [id_.decode() for id_, _ in await self.redis.xrange(self.log)]


async def now_ms(redis: Any) -> int:
    seconds, microseconds = await redis.time()
    return int(seconds * 1_000 + microseconds // 1_000)


@pytest.fixture
async def bench(plane: Plane) -> AsyncIterator[Bench]:
    client, keys = connect(plane.redis_url, name="scripts"), Keys(plane.cluster)
    yield Bench(client, ScriptRunner(client), keys.meta("alice", DEMO), keys.log("alice", DEMO))
    await client.aclose()


async def test_the_cursor_moves_forward_only_and_not_past_the_newest(bench: Bench) -> None:
    ids = await bench.fill(3)
    assert await bench.advance(ids[1], ids[2]) == 1
    assert await bench.advance(ids[0], ids[0]) == 0
    assert await bench.advance(ids[1]) == 0
    assert await bench.advance("9999999999999-99", "9999999999999-99") == 0
    assert await bench.redis.hmget(bench.meta, ["cursor", "sent"]) == [ids[1].encode(), ids[2].encode()]


async def test_a_lost_log_gets_no_cursor(bench: Bench) -> None:
    assert await bench.advance("5-5", "5-5") == 0
    assert await bench.redis.exists(bench.meta) == 0


async def test_what_was_delivered_long_ago_leaves_and_what_waits_stays(bench: Bench) -> None:
    ids = await bench.fill(5)
    await bench.advance(ids[2])
    assert await bench.left() == ids[3:]
    await bench.advance("0-0", ids[4])
    assert await bench.left() == ids[3:], "it was written to a socket, and nobody has acknowledged it"


async def test_what_was_delivered_just_now_stays_for_resume(bench: Bench, plane: Plane) -> None:
    (old,) = await bench.fill(1)
    new = await bench.append(Keys(plane.cluster))
    await bench.advance(new)
    assert await bench.left() == [new]

    async def gone() -> bool:
        await bench.advance("0-0", kept_ms=1)
        return not await bench.left()

    await eventually(gone)
    assert old < new


async def test_a_usual_run_makes_few_calls(bench: Bench, plane: Plane) -> None:
    new = [await bench.append(Keys(plane.cluster)) for _ in range(2)]
    await bench.advance(new[0], new[0])
    before = await count_calls(bench.redis)
    assert await bench.advance(new[1], new[1]) == 1
    assert await count_calls(bench.redis) - before == 4 + len(("EVALSHA", "INFO"))


async def test_a_run_that_moves_nothing_writes_nothing(bench: Bench, plane: Plane) -> None:
    waits = [await bench.append(Keys(plane.cluster)) for _ in range(2)]
    await bench.advance(waits[0], waits[1])
    before = await count_calls(bench.redis)
    assert await bench.advance(waits[0], waits[1]) == 0
    assert await count_calls(bench.redis) - before == 2 + len(("EVALSHA", "INFO")), "HMGET, TIME"


@pytest.mark.parametrize(("tidied_ago_ms", "trims"), [(6_000, False), (8_000, True), (-60_000, True)])
async def test_what_append_has_trimmed_lately_is_not_trimmed_again(
    bench: Bench, tidied_ago_ms: int, trims: bool
) -> None:
    """Lately: within an eighth of the time that an entry is kept. A clock that went back must not stop it."""
    now = await now_ms(bench.redis)
    (old,) = await bench.fill(1, ms=now - 63_000)
    new = f"{now - 1_000}-2"
    await bench.redis.xadd(bench.log, {"b": "x"}, id=new)
    noted = {"ms": now - 1_000, "seq": 2, "cursor": old, "tidied": now - tidied_ago_ms}
    await bench.redis.hset(bench.meta, mapping=noted)
    assert await bench.advance(new, kept_ms=60_000) == 1
    assert await bench.left() == ([new] if trims else [old, new])


@pytest.mark.parametrize("cursor", [None, 0], ids=["no cursor", "an old cursor"])
async def test_what_waited_for_long_leaves_when_it_is_delivered_although_append_has_just_trimmed(
    bench: Bench, cursor: int | None
) -> None:
    """APPEND could not trim what waited."""
    ids = await bench.fill(5)
    noted = {"tidied": await now_ms(bench.redis), **({} if cursor is None else {"cursor": ids[cursor]})}
    await bench.redis.hset(bench.meta, mapping=noted)
    assert await bench.advance(ids[2], kept_ms=60_000) == 1
    assert await bench.left() == ids[3:]


async def test_a_log_in_which_nothing_waits_ends_by_itself_until_something_does(bench: Bench, plane: Plane) -> None:
    ids = await bench.fill(2)
    await bench.redis.persist(bench.log)
    await bench.advance(ids[0], kept_ms=60_000)
    assert await bench.redis.pttl(bench.log) == -1, "the second one waits"
    await bench.advance(ids[1], kept_ms=60_000)
    assert 0 < await bench.redis.pttl(bench.log) <= 60_000
    assert await bench.append(Keys(plane.cluster)) > ids[1]
    assert await bench.redis.pttl(bench.log) > DAY_MS - 60_000


async def test_a_log_that_ended_goes_on_with_the_next_number(bench: Bench, plane: Plane) -> None:
    ids = await bench.fill(2)
    await bench.advance(ids[1], kept_ms=0)
    assert await bench.redis.exists(bench.log) == 0
    assert (await bench.append(Keys(plane.cluster))).endswith("-3")
    assert await bench.redis.hget(bench.meta, "accounted") is None, "nothing that waited was dropped"


async def test_one_call_takes_a_bounded_number_out_of_a_long_log_and_the_next_ones_the_rest(bench: Bench) -> None:
    ids = await bench.fill(2 * MAX_TRIMMED_ENTRIES + 500)
    await bench.advance(ids[-2])
    lengths = [len(await bench.left())]
    while lengths[-1] > 1 and len(lengths) < 10:
        await bench.advance("0-0")
        lengths.append(len(await bench.left()))
    assert lengths[-1] == 1
    assert lengths[0] >= MAX_TRIMMED_ENTRIES + 500
    assert all(before - after <= MAX_TRIMMED_ENTRIES for before, after in pairwise(lengths))
    assert await bench.left() == ids[-1:]


async def test_a_full_redis_lets_go_of_what_was_delivered(bench: Bench) -> None:
    ids = await bench.fill(50)
    before = (await bench.redis.config_get("maxmemory"))["maxmemory"]
    await bench.redis.config_set("maxmemory", 1)
    try:
        assert await bench.advance(ids[39]) == 1
        assert await bench.left() == ids[40:]
    finally:
        await bench.redis.config_set("maxmemory", before)
