"""The parts between clients and shells: who gets a copy, and what the registry is told of those who got it."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from pushcluster_contract.batch import Address
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import StreamId
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry import cursor_flusher
from pushcluster_gateway.registry.cursor_flusher import (
    COLLECTED_AT_ONCE,
    COLLECTED_BEFORE_SUBSCRIBE,
    MAX_MOVES,
    CursorFlusher,
)
from pushcluster_gateway.registry.store import CursorMove, SessionRegistry
from pushcluster_gateway.session.hub import Hub
from pushcluster_runtime.tasks import cancel
from tests.support.waiting import eventually
from tests.unit.gateway.fakes import DEMO, FakeClient, FakeRegistry, as_client, as_subscription


class AwayTwice(FakeRegistry):
    async def advance_cursors(self, moves: Sequence[CursorMove]) -> None:
        self.asked += 1
        self.away = self.asked <= 2
        await super().advance_cursors(moves)


class TestHub:
    def test_a_copy_reaches_every_subscription_of_its_user_and_destination_and_no_other(self) -> None:
        hub = Hub()
        alice, phone, bob = FakeClient("alice", "a"), FakeClient("alice", "p"), FakeClient("bob", "b")
        for client in (alice, phone, bob):
            hub.add(as_client(client))
            hub.add_subscription(as_subscription(client.subscribe("0")))
        hub.add_subscription(as_subscription(alice.subscribe("1", Destination("topic", "demo"))))
        found = hub.addressed(Address.of("alice", DEMO).data)
        assert [subscription.client for subscription in found] == [as_client(alice), as_client(phone)]
        assert hub.addressed(Address.of("carol", DEMO).data) == ()

    def test_a_session_that_left_leaves_nothing(self) -> None:
        hub = Hub()
        alice = FakeClient("alice", "a")
        hub.add(as_client(alice))
        for key in ("0", "1"):
            hub.add_subscription(as_subscription(alice.subscribe(key)))
        assert (len(hub), hub.subscriptions_count, hub.session_ids()) == (1, 2, ["a"])
        subscription = as_subscription(alice.subscriptions["0"])
        hub.remove_subscription(subscription)
        hub.remove_subscription(subscription)
        assert hub.subscriptions_count == 1
        hub.remove(as_client(alice))
        assert (len(hub), hub.subscriptions_count, hub.find("a"), list(hub.subscriptions())) == (0, 0, None, [])
        assert hub.addressed(Address.of("alice", DEMO).data) == ()


class TestCursors:
    def flusher(self) -> tuple[CursorFlusher, FakeRegistry]:
        registry = FakeRegistry()
        return CursorFlusher(cast(SessionRegistry, registry), Metrics()), registry

    async def test_a_cursor_that_redis_did_not_accept_is_kept_at_its_furthest_position(self) -> None:
        cursors, registry = self.flusher()
        alice = FakeClient("alice", "a").subscribe("0")
        registry.away = True
        for seq in (3, 2):
            alice.moves.append((StreamId(1, seq), StreamId(1, seq + 5)))
            cursors.collect(as_subscription(alice))
            with pytest.raises(Unavailable):
                await cursors.flush()
        registry.away = False
        await cursors.flush()
        assert registry.moves == [CursorMove("alice", DEMO, StreamId(1, 3), StreamId(1, 8))]
        await cursors.flush()
        assert len(registry.moves) == 1

    async def test_one_cursor_more_than_a_round_trip_takes_goes_with_the_next(self) -> None:
        cursors, registry = self.flusher()
        for n in range(MAX_MOVES + 1):
            subscription = FakeClient(f"user{n}", "a").subscribe("0")
            subscription.moves.append((StreamId(1, 1), StreamId(1, 1)))
            cursors.collect(as_subscription(subscription))
        await cursors.flush()
        assert registry.round_trips == [MAX_MOVES, 1]

    async def test_a_user_with_very_many_subscriptions_costs_each_new_one_no_more_than_others(self) -> None:
        cursors, _ = self.flusher()
        alice = FakeClient("alice", "a")
        held = [alice.subscribe(str(n)) for n in range(COLLECTED_BEFORE_SUBSCRIBE + 1)]
        for each in held:
            cursors.schedule(as_subscription(each))
        await cursors.flush_destination("alice", DEMO, map(as_subscription, held))
        assert [each for each in held if each.flush_scheduled] == [held[-1]]

    async def test_messages_are_pushed_between_the_cursors_of_many_subscriptions(self) -> None:
        cursors, _ = self.flusher()
        moved = [FakeClient(f"user{n}", "a").subscribe("0") for n in range(COLLECTED_AT_ONCE + 2)]
        for each in moved:
            cursors.schedule(as_subscription(each))
        collecting = asyncio.create_task(cursors._collect_all())
        await asyncio.sleep(0)
        left = [each for each in moved if each.flush_scheduled]
        assert len(left) == 2
        cursors.collect(as_subscription(left[0]))  # its session ends
        left[0].moves.append((StreamId(1, 1), StreamId(1, 1)))
        await collecting
        assert not any(each.flush_scheduled for each in moved)
        assert left[0].moves, "nothing is taken after the end"

    async def test_a_cursor_that_has_not_moved_is_not_flushed(self) -> None:
        cursors, registry = self.flusher()
        cursors.collect(as_subscription(FakeClient("alice", "a").subscribe("0")))
        await cursors.flush()
        assert registry.moves == []

    async def test_a_new_subscription_flushes_the_cursor_of_its_destination_alone(self) -> None:
        cursors, registry = self.flusher()
        alice, bob = FakeClient("alice", "a"), FakeClient("bob", "b")
        left, standing, other = alice.subscribe("0"), alice.subscribe("1"), bob.subscribe("0")
        for n, each in enumerate((left, standing, other), start=1):
            each.moves.append((StreamId(1, n), StreamId(1, n)))
            cursors.schedule(as_subscription(each))
        cursors.collect(as_subscription(left))
        await cursors.flush_destination("alice", DEMO, [as_subscription(standing)])
        assert registry.moves == [CursorMove("alice", DEMO, StreamId(1, 2), StreamId(1, 2))]
        await cursors.flush_destination("alice", Destination("topic", "demo"), [])
        assert len(registry.moves) == 1

    async def test_a_new_subscription_also_flushes_a_cursor_that_is_already_in_flight(self) -> None:
        """The other round trip may be answered after the SUBSCRIBE."""
        cursors, registry = self.flusher()
        alice = FakeClient("alice", "a").subscribe("0")
        alice.moves.append((StreamId(1, 1), StreamId(1, 1)))
        cursors.collect(as_subscription(alice))
        flushing = asyncio.ensure_future(cursors.flush())
        await asyncio.sleep(0)
        await cursors.flush_destination("alice", DEMO, [])
        await flushing
        assert registry.moves == [CursorMove("alice", DEMO, StreamId(1, 1), StreamId(1, 1))] * 2

    async def test_a_cursor_that_waits_for_its_socket_is_collected_again(self) -> None:
        cursors, _ = self.flusher()
        alice = FakeClient("alice", "a").subscribe("0")
        alice.has_unflushed = True
        cursors.schedule(as_subscription(alice))
        await cursors.flush_destination("alice", DEMO, [as_subscription(alice)])
        assert alice.flush_scheduled

    async def test_the_cursors_of_a_cancelled_flush_go_with_the_next_one(self) -> None:
        """A drain cancels the loop that flushes, then flushes for the last time."""
        cursors, registry = self.flusher()
        alice = FakeClient("alice", "a").subscribe("0")
        alice.moves.append((StreamId(1, 1), StreamId(1, 1)))
        cursors.collect(as_subscription(alice))
        flushing = asyncio.ensure_future(cursors.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        assert registry.moves == []
        await cursors.flush()
        assert registry.moves == [CursorMove("alice", DEMO, StreamId(1, 1), StreamId(1, 1))]

    async def test_a_cursor_that_redis_refuses_keeps_nobody_from_leaving(self) -> None:
        cursors, registry = self.flusher()
        alice = FakeClient("alice", "a").subscribe("0")
        alice.moves.append((StreamId(1, 1), StreamId(1, 1)))
        cursors.collect(as_subscription(alice))
        registry.broken = True
        await cursors.flush()
        registry.broken = False
        await cursors.flush()
        assert registry.moves == []

    async def test_a_flush_that_fails_is_counted_and_made_again_a_second_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cursor_flusher, "FLUSH_INTERVAL_S", 0.0)
        registry, metrics = AwayTwice(), Metrics()
        cursors = CursorFlusher(cast(SessionRegistry, registry), metrics)
        alice = FakeClient("alice", "a").subscribe("0")
        alice.moves.append((StreamId(1, 1), StreamId(1, 1)))
        cursors.schedule(as_subscription(alice))
        running = asyncio.create_task(cursors.run())
        await eventually(lambda: registry.moves, within_s=2)
        await cancel(running)
        assert metrics.redis_errors == 2
        assert registry.moves == [CursorMove("alice", DEMO, StreamId(1, 1), StreamId(1, 1))]
