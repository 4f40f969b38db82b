"""READ_PAGE against a real Redis: a page has a bound in entries and in bytes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import ZERO_ID, Incarnation, StreamId
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import LOG_PAGE_BYTES, LOG_PAGE_ENTRIES, MAX_BODY_BYTES
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_gateway.session.delivery import LogPage, ReadPage
from pushcluster_runtime.redis.client import ScriptRunner, connect
from tests.support.planes import Plane

DEMO: Final = Destination("queue", "demo")
MS: Final = 1_700_000_000_000


@dataclass
class Bench:
    """The log of alice, and how a gateway reads it."""

    redis: Any  # redis-py types replies as text or bytes or neither
    registry: SessionRegistry
    log: str

    async def fill(self, count: int, size: int) -> None:
        for seq in range(1, count + 1):
            await self.redis.xadd(self.log, {"b": bytes(size)}, id=f"{MS}-{seq}")

    async def read(
        self, after: int = 0, *, limit: int = LOG_PAGE_ENTRIES, max_bytes: int = LOG_PAGE_BYTES
    ) -> tuple[list[int], bool]:
        page = await self.page(StreamId(MS, after) if after else ZERO_ID, limit, max_bytes)
        return [entry.id.seq for entry in page.entries], page.cut

    async def page(self, after: StreamId, limit: int, max_bytes: int) -> LogPage:
        return await self.registry.read_page("alice", DEMO, ReadPage(after, limit, max_bytes, 1))


@pytest.fixture
async def bench(plane: Plane) -> AsyncIterator[Bench]:
    client, keys = connect(plane.redis_url, name="pages"), Keys(plane.cluster)
    registry = SessionRegistry(
        client,
        ScriptRunner(client),
        keys,
        Incarnation("pod", "0" * 16),
        kept_delivered_ms=1_000,
        max_sessions_per_user=1,
        lost_gateway_ms=1_000,
    )
    yield Bench(client, registry, keys.log("alice", DEMO))
    await registry.close()
    await client.aclose()


async def test_a_full_log_of_the_largest_messages_is_read_in_pages_of_bounded_bytes(bench: Bench) -> None:
    count = 20
    await bench.fill(count, MAX_BODY_BYTES)
    seen: list[int] = []
    cut = True
    while cut:
        page = await bench.page(StreamId(MS, seen[-1]) if seen else ZERO_ID, LOG_PAGE_ENTRIES, LOG_PAGE_BYTES)
        seen += [entry.id.seq for entry in page.entries]
        cut = page.cut
        assert sum(len(entry.body) for entry in page.entries) <= LOG_PAGE_BYTES
    assert seen == list(range(1, count + 1))


async def test_one_byte_more_than_a_page_holds_waits_for_the_next_page(bench: Bench) -> None:
    await bench.fill(9, 99)  # 100 bytes with the name of the field
    assert await bench.read(max_bytes=300) == ([1, 2, 3], True)
    assert await bench.read(max_bytes=299) == ([1, 2], True)
    assert await bench.read(after=6, max_bytes=300) == ([7, 8, 9], False)


async def test_one_entry_is_read_whatever_its_size(bench: Bench) -> None:
    await bench.fill(2, 99)
    assert await bench.read(max_bytes=1) == ([1], True)
    assert await bench.read(after=1, max_bytes=1) == ([2], False)


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 12, 27, 28, 29, 40])
async def test_it_has_no_more_entries_than_its_limit(bench: Bench, limit: int) -> None:
    await bench.fill(29, 1)
    assert await bench.read(limit=limit) == (list(range(1, min(limit, 29) + 1)), False)


async def test_the_page_after_the_newest_entry_and_that_of_no_log_are_empty(bench: Bench) -> None:
    assert await bench.read() == ([], False)
    await bench.fill(4, 1)
    assert await bench.read() == ([1, 2, 3, 4], False), "as many as are read in one step"
    assert await bench.read(after=4) == ([], False)


async def test_all_fields_of_an_entry_count_and_come_back(bench: Bench) -> None:
    fields = {"b": b"body", "h": '{"x-kind":"a"}', "t": "text/plain", "m": "order-7", "e": "5", "r": "s\n{}"}
    for seq in (1, 2):
        await bench.redis.xadd(bench.log, fields, id=f"{MS}-{seq}")
    size = sum(len(name) + len(value) for name, value in fields.items())
    assert await bench.read(max_bytes=2 * size - 1) == ([1], True)
    (entry, _) = (await bench.page(ZERO_ID, 9, 2 * size)).entries
    assert (entry.body, entry.content_type, entry.producer_message_id) == (b"body", "text/plain", "order-7")
    assert (entry.headers, entry.expires_ms, entry.reply) == ({"x-kind": "a"}, 5, "s\n{}")
