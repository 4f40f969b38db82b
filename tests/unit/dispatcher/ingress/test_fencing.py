"""Taking a fencing token, step by step, against a Redis and a channel that are played."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis
import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.keys import Keys
from pushcluster_contract.scripts import Script
from pushcluster_dispatcher.ingress.fencing import FencedLogs
from pushcluster_dispatcher.ingress.interfaces import LogAppender, RedisLost
from pushcluster_dispatcher.log.entries import StaleToken
from pushcluster_dispatcher.log.interfaces import HeldWire
from pushcluster_dispatcher.log.user_log import Fence
from pushcluster_runtime.backoff import Backoff
from tests.support.waiting import settle

KEYS = Keys("ns.demo")
_NAMES = {Script.TAKE_TOKEN.source().encode(): "count up", Script.RAISE_FENCE.source().encode(): "raise the fence to"}


@dataclass
class Bench:
    """One Redis connection, one barrier, one channel; what happens is noted in order."""

    replies: list[Any] = field(default_factory=lambda: [7, 1])
    happened: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    barrier: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    channel_error: Exception | None = None
    channel_answers: asyncio.Event = field(default_factory=asyncio.Event)
    run_id: str = "life1"
    lost: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    fences: list[Fence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channel_answers.set()
        self.logs = FencedLogs(
            5,
            KEYS,
            self,
            self._open,
            self._request,
            self._prove,
            backoff=Backoff(lambda: 1.0),
            first_wire=self,
            sleep=self._sleep,
        )

    async def wire(self) -> "Bench":
        self.happened.append("wait for Redis")
        return self

    async def execute(self, commands: Sequence[bytes]) -> list[Any]:
        reader = hiredis.Reader()
        (packed,) = commands
        reader.feed(packed)
        command = reader.gets()
        name = _NAMES[command[1]]
        keys = [KEYS.token(5), KEYS.fence(5)] if name == "count up" else [KEYS.fence(5)]
        assert command[0] == b"EVAL"
        assert command[2 : 3 + len(keys)] == [b"%d" % len(keys), *(key.encode() for key in keys)]
        self.happened.append(" ".join([name, *(text.decode() for text in command[3 + len(keys) :])]))
        reply = self.replies.pop(0)
        if isinstance(reply, RedisLost):
            raise Unavailable("Redis: gone")
        return [reply]

    def _open(self, wire: HeldWire, fence: Fence) -> LogAppender:
        assert wire is self
        self.fences.append(fence)
        return cast(LogAppender, None)

    def _request(self, run_id: str, *, urgent: bool = True) -> asyncio.Future[None]:
        self.happened.append(f"{'urgent ' if urgent else ''}barrier {run_id}")
        return self.barrier

    async def _prove(self) -> None:
        self.happened.append("ask the channel")
        await self.channel_answers.wait()
        if self.channel_error is not None:
            raise self.channel_error

    async def answer_once(self) -> None:
        """Let the channel answer what it was asked, and nothing more."""
        self.channel_answers.set()
        self.channel_answers.clear()
        await settle()

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_the_channel_is_asked_after_each_answer_of_redis_and_nothing_opens_before_its_last_answer() -> None:
    bench = Bench()
    bench.channel_answers.clear()
    opening = asyncio.create_task(bench.logs.open(bench))
    await settle()
    assert (bench.happened, opening.done(), bench.fences) == (["count up 0", "ask the channel"], False, [])
    await bench.answer_once()
    assert bench.happened[2:] == ["raise the fence to 7", "ask the channel"]
    assert (opening.done(), bench.fences) == (False, [])
    await bench.answer_once()
    opened = await opening
    assert (opened.token, bench.fences) == (7, [Fence(5, 7)])
    for urgent in (False, True):
        opened.request_barrier(urgent=urgent)
    assert bench.happened[-2:] == ["barrier life1", "urgent barrier life1"]


async def test_a_channel_that_has_fallen_since_the_fence_was_raised_opens_nothing() -> None:
    """Another consumer may have been fed, with a token from when it consumed before."""
    bench = Bench()
    bench.channel_answers.clear()
    opening = asyncio.create_task(bench.logs.open(bench))
    await settle()
    await bench.answer_once()
    bench.channel_error = Unavailable("RabbitMQ: channel closed")
    await bench.answer_once()
    with pytest.raises(Unavailable, match="channel closed"):
        await opening
    assert bench.fences == []


async def test_who_counts_and_finds_a_higher_fence_opens_nothing() -> None:
    bench = Bench(replies=[7, 0])
    with pytest.raises(StaleToken, match="7"):
        await bench.logs.open(bench)
    assert bench.fences == []


async def test_a_channel_that_has_fallen_opens_nothing() -> None:
    bench = Bench(channel_error=Unavailable("RabbitMQ: channel closed"))
    with pytest.raises(Unavailable, match="channel closed"):
        await bench.logs.open(bench)
    assert (bench.happened, bench.fences) == (["count up 0", "ask the channel"], []), "it disturbs nobody"


async def test_a_redis_that_is_lost_before_it_has_counted_is_lost() -> None:
    with pytest.raises(RedisLost, match="gone"):
        await (bench := Bench(replies=[RedisLost()])).logs.open(bench)


async def test_the_next_token_is_to_be_higher_than_all_that_the_channel_had() -> None:
    """A restart of Redis may have lost them, and the attempts of the channel are still named by one of them."""
    bench = Bench(replies=[7, 1, RedisLost(), 9, RedisLost(), 12, 1])
    assert (await bench.logs.open(bench)).token == 7
    for _ in range(2):
        with pytest.raises(RedisLost):
            await bench.logs.open(bench)
    assert (await bench.logs.open(bench)).token == 12
    counted = [each for each in bench.happened if each.startswith("count up")]
    assert counted == ["count up 0", "count up 7", "count up 7", "count up 9"]


async def test_a_redis_that_is_lost_before_it_has_raised_the_fence_is_lost() -> None:
    with pytest.raises(RedisLost, match="gone"):
        await (bench := Bench(replies=[7, RedisLost()])).logs.open(bench)
    assert bench.fences == []


async def test_a_redis_that_cannot_count_now_is_asked_again_with_pauses() -> None:
    bench = Bench(replies=[Unavailable("LOADING"), Unavailable("READONLY"), 9, Unavailable("BUSY"), 1])
    assert (await bench.logs.open(bench)).token == 9
    assert bench.slept == [0.1, 0.2, 0.4]


async def test_the_same_connection_is_used_again_only_after_pauses_that_grow() -> None:
    """Two connections may speak to two runs of Redis for a while: that must not become a loop without a pause."""
    bench = Bench()
    for slept in ([], [0.1], [0.1, 0.2]):
        assert await bench.logs.wire() is bench
        assert bench.slept == slept
        assert len(bench.happened) == len(slept), "the first one is there, or the session ends with it"


async def test_with_another_connection_the_pauses_begin_anew() -> None:
    bench, other = Bench(), Bench()
    for _ in range(3):
        await bench.logs.wire()
    bench.logs.link = other
    assert await bench.logs.wire() is other
    await bench.logs.wire()
    assert bench.slept == [0.1, 0.2, 0.4, 0.1]
