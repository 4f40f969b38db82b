"""How many calls the registry sends at once. No Redis: what reaches it is counted."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import SESSION_ID_CHARS, Incarnation, StreamId
from pushcluster_contract.keys import Keys
from pushcluster_contract.scripts import Script
from pushcluster_gateway.registry.store import (
    MAX_BATCH,
    MAX_LOST_SESSION_LOOKUPS,
    MAX_PAGES,
    SessionRegistry,
)
from pushcluster_gateway.session.delivery import ReadPage
from pushcluster_runtime.redis.client import Argument, Call, ScriptRunner

DEMO = Destination("queue", "demo")


def sid(n: int) -> str:
    return str(n).translate(str.maketrans("0123456789", "abcdefghij")).rjust(SESSION_ID_CHARS, "x")


class CountingPipeline:
    """Answers each command with nothing, and notes how many there were."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts
        self._commands = 0

    async def __aenter__(self) -> "CountingPipeline":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def hgetall(self, _: str) -> None:
        self._commands += 1

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        self._counts.append(self._commands)
        return [[] if not raise_on_error else {}] * self._commands


class CountingRedis:
    """As much of a client and of a script runner as the registry uses here."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.keys: list[list[str]] = []
        """The first key of each call, for each round trip of a script."""

    def pipeline(self, *, transaction: bool) -> CountingPipeline:
        assert not transaction
        return CountingPipeline(self.counts)

    async def srem(self, _: str, *members: str) -> int:
        self.counts.append(len(members))
        return len(members)

    async def run(self, script: Script, _: Sequence[str], args: Sequence[Argument]) -> None:
        assert script is Script.ADD_MEMBERS
        self.counts.append(len(args))

    async def run_many(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        self.keys.append([call.keys[0] for call in calls])
        if script is not Script.REMOVE_SESSION:
            self.counts.append(len(calls))
        return [(0, []) if script is Script.READ_PAGE else 1] * len(calls)


@pytest.fixture
def redis() -> CountingRedis:
    return CountingRedis()


@pytest.fixture
def registry(redis: CountingRedis) -> SessionRegistry:
    return SessionRegistry(
        cast(Redis, redis),
        cast(ScriptRunner, redis),
        Keys("ns.demo"),
        Incarnation("pod", "0" * 16),
        kept_delivered_ms=1,
        max_sessions_per_user=1,
        lost_gateway_ms=1,
    )


async def counts_of(redis: CountingRedis, calls: Sequence[Awaitable[Any]]) -> list[int]:
    await asyncio.gather(*calls)
    return redis.counts


async def test_one_script_more_than_a_pipeline_takes_goes_in_the_next(
    redis: CountingRedis, registry: SessionRegistry
) -> None:
    calls = [registry.unsubscribe("alice", sid(n), DEMO) for n in range(MAX_BATCH + 1)]
    assert await counts_of(redis, calls) == [MAX_BATCH, 1]


async def test_one_session_more_is_added_in_a_second_round_trip(
    redis: CountingRedis, registry: SessionRegistry
) -> None:
    calls = [registry.refresh_member("alice", sid(n)) for n in range(MAX_BATCH + 1)]
    assert await counts_of(redis, calls) == [MAX_BATCH, 1]


async def test_one_session_more_is_removed_in_a_second_round_trip(
    redis: CountingRedis, registry: SessionRegistry
) -> None:
    # REMOVE_SESSION of the last one may still be under way when the others have been struck out.
    calls = [registry.leave("alice", sid(n)) for n in range(MAX_BATCH + 1)]
    counts = await counts_of(redis, calls)
    assert max(counts) == MAX_BATCH
    assert sum(counts) == MAX_BATCH + 1


async def test_one_page_more_is_read_after_the_others(redis: CountingRedis, registry: SessionRegistry) -> None:
    calls = [registry.read_page(f"u{n}", DEMO, ReadPage(StreamId(0, 0), 1, 1, 1)) for n in range(MAX_PAGES + 1)]
    assert await counts_of(redis, calls) == [MAX_PAGES, 1]


async def test_a_user_who_reads_many_pages_delays_those_of_others_by_one_round_trip(
    redis: CountingRedis, registry: SessionRegistry
) -> None:
    page = ReadPage(StreamId(0, 0), 1, 1, 1)
    calls = [registry.read_page("mallory", DEMO, page) for _ in range(2_048)]
    calls += [registry.read_page(f"u{n}", DEMO, page) for n in range(MAX_PAGES - 1)]
    await counts_of(redis, calls)
    assert len(set(redis.keys[0])) == MAX_PAGES, "one page of each user"


async def test_a_user_who_subscribes_much_delays_the_subscribes_of_others_by_no_more(
    redis: CountingRedis, registry: SessionRegistry
) -> None:
    calls = [registry.unsubscribe("mallory", sid(n), DEMO) for n in range(4_096)]
    calls.append(registry.unsubscribe("alice", sid(0), DEMO))
    await counts_of(redis, calls)
    assert len(set(redis.keys[0])) == 2


async def test_one_user_more_is_checked_for_lost_sessions_after_the_others(
    redis: CountingRedis, registry: SessionRegistry
) -> None:
    calls = [registry.remove_lost(f"u{n}") for n in range(MAX_LOST_SESSION_LOOKUPS + 1)]
    assert await counts_of(redis, calls) == [MAX_LOST_SESSION_LOOKUPS, 1]
