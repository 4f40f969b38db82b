"""When the queues of subscriptions come and go. The broker and the registry are lists of what they were asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import SESSION_ID_CHARS
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.broker.copy_hops import CopyHops
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.broker.subscription_queues import OPENINGS_IN_FLIGHT, SubscriptionQueues
from pushcluster_gateway.session.subscription import Subscription
from tests.support.waiting import eventually
from tests.unit.gateway.fakes import FakeClient, as_subscription

AFTER_S = 0.05


class Bench:
    """Stands for the broker and the registry."""

    def __init__(self, *, queues: int = 1_000, mode: RoutingMode = RoutingMode.SESSION, after_s: float = 0.0) -> None:
        self.asked: list[str] = []
        self.opening = 0
        self.most_opening = 0
        self.go_on = asyncio.Event()
        """Queues are opened while it is set."""
        self.go_on.set()
        self.connected = True
        self.gateways = 1
        self.on_cancel: Callable[[], None] = lambda: None
        self.opened_at = 0.0
        self.queues = SubscriptionQueues(
            mode=mode,
            broker=cast(BrokerLink, self),
            copies=cast(CopyReader, None),
            hops=cast(CopyHops, None),
            quota=QueueQuota(queues, lambda: self.gateways, max_per_session=2),
            own_queue_after_s=after_s,
            clock=asyncio.get_running_loop().time,
        )
        self.queues.entries = self
        self._names = 0

    # BrokerLink

    def check_connected(self) -> None:
        if not self.connected:
            raise Unavailable("RabbitMQ: not connected")

    async def open_queue(self, key: str, _: Callable[..., None], on_cancel: Callable[[], None]) -> str:
        self.asked.append(f"open {key.partition('-')[0]}")
        self.opened_at, self.on_cancel = asyncio.get_running_loop().time(), on_cancel
        self.opening += 1
        self.most_opening = max(self.most_opening, self.opening)
        await self.go_on.wait()
        self.opening -= 1
        self.check_connected()
        self._names += 1
        return f"q{self._names}"

    async def close_queue(self, name: str) -> None:
        self.asked.append(f"close {name}")

    # EntryWriter

    async def write_path(self, subscription: Subscription) -> None:
        self.asked.append(f"write {'own' if subscription.path.used else 'gateway'}")

    async def reread_sharers(self, subscription: Subscription) -> None:
        assert not subscription.path.queue
        self.asked.append("reread")

    # What a session does

    def subscribe(self, *, user: str = "alice", key: str = "0") -> Subscription:
        return self.subscribe_again(FakeClient(user, "s" * SESSION_ID_CHARS), key)

    def subscribe_again(self, client: FakeClient, key: str) -> Subscription:
        subscription = as_subscription(client.subscribe(key))
        self.queues.begin(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> bool:
        subscription.ended = True
        return await self.queues.close(subscription)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(bench.queues.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(bench: Bench, *expected: str) -> None:
    """Wait until the broker and the registry were asked this since the last time, and nothing else."""

    def just_this() -> bool:
        assert bench.asked == list(expected)
        return True

    await eventually(just_this, within_s=2)
    for _ in range(3):
        await asyncio.sleep(0)
    assert just_this()
    bench.asked.clear()


async def test_a_queue_is_opened_when_the_subscription_has_lasted_and_not_before() -> None:
    async with running(Bench(after_s=AFTER_S)) as bench:
        began_at = asyncio.get_running_loop().time()
        bench.subscribe()
        await asked(bench, "open demo", "write own")
        assert bench.opened_at - began_at >= AFTER_S - 0.001, "the loop's clock counts milliseconds"


async def test_a_subscription_that_ends_before_asks_nothing_of_the_broker() -> None:
    async with running(Bench(after_s=AFTER_S)) as bench:
        short = [bench.subscribe() for _ in range(3)]
        for each in short:
            assert await bench.unsubscribe(each) is False
        bench.subscribe(user="bob")
        await asked(bench, "open demo", "write own")


@pytest.mark.parametrize("mode", [RoutingMode.GATEWAY, RoutingMode.BROADCAST])
async def test_other_modes_have_no_queues(mode: RoutingMode) -> None:
    async with running(Bench(mode=mode)) as bench:
        bench.subscribe()
        bench.queues.connected([])
        await asked(bench)
        assert bench.queues.count_without == 0


async def test_one_subscription_more_than_are_opened_at_once_waits_for_the_others() -> None:
    async with running(Bench()) as bench:
        bench.go_on.clear()
        for n in range(OPENINGS_IN_FLIGHT + 1):
            bench.subscribe(user=f"user{n}")
        await eventually(lambda: bench.opening == OPENINGS_IN_FLIGHT, within_s=2)
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.opening == OPENINGS_IN_FLIGHT
        bench.go_on.set()
        await eventually(lambda: bench.asked.count("write own") == OPENINGS_IN_FLIGHT + 1, within_s=2)
        assert bench.most_opening == OPENINGS_IN_FLIGHT


async def test_one_subscription_more_than_the_quota_stays_on_the_gateways_queue() -> None:
    async with running(Bench(queues=1)) as bench:
        first, second = bench.subscribe(), bench.subscribe(user="bob")
        await asked(bench, "open demo", "write own")
        assert (bench.queues.count_without, second.path.queue) == (1, "")
        assert await bench.unsubscribe(first) is True
        await asked(bench, "close q1")
        bench.subscribe(user="carol")
        await asked(bench, "open demo", "write own")
        assert await bench.unsubscribe(second) is False
        assert bench.queues.count_without == 0


async def test_a_queue_that_is_open_when_its_subscription_has_ended_is_deleted_and_told_to_nobody() -> None:
    async with running(Bench()) as bench:
        bench.go_on.clear()
        subscription = bench.subscribe()
        await asked(bench, "open demo")
        assert await bench.unsubscribe(subscription) is False
        bench.go_on.set()
        await asked(bench, "close q1", "reread")


async def test_a_queue_that_somebody_deletes_is_opened_again() -> None:
    async with running(Bench()) as bench:
        subscription = bench.subscribe()
        await asked(bench, "open demo", "write own")
        bench.on_cancel()
        await asked(bench, "reread", "open demo", "write own")
        assert await bench.unsubscribe(subscription) is True
        await asked(bench, "close q2")
        bench.on_cancel()
        await asked(bench)


async def test_surplus_queues_go_after_dispatchers_were_told_and_stay_away() -> None:
    async with running(Bench(queues=2)) as bench:
        client = FakeClient("alice", "s" * SESSION_ID_CHARS)
        subscriptions = [bench.subscribe_again(client, str(n)) for n in range(2)]
        await eventually(lambda: all(each.path.used for each in subscriptions), within_s=2)
        bench.asked.clear()
        bench.queues.leave_surplus(subscriptions)
        await asked(bench)
        bench.gateways = 2
        bench.queues.leave_surplus(subscriptions)
        await asked(bench, "write gateway", "close q1", "reread")
        assert bench.queues.count_without == 1
        bench.gateways = 1
        bench.queues.connected(subscriptions)
        await asked(bench, "open demo", "write own")


async def test_queues_that_went_with_the_connection_are_opened_again_and_others_wait_for_their_time() -> None:
    async with running(Bench(after_s=AFTER_S)) as bench:
        old = bench.subscribe()
        await asked(bench, "open demo", "write own")
        young = bench.subscribe(user="bob")
        bench.queues.connected([old, young])
        assert (old.path.queue, old.path.used) == ("", False)
        await asked(bench, "open demo", "write own", "open demo", "write own")


async def test_a_queue_that_a_lost_connection_kept_from_opening_is_opened_after_the_next_one() -> None:
    async with running(Bench()) as bench:
        bench.connected = False
        subscription = bench.subscribe()
        await asked(bench, "open demo")
        bench.connected = True
        bench.queues.connected([subscription])
        await asked(bench, "open demo", "write own")


async def test_an_error_in_one_session_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Subscription) -> None:
        raise ValueError("its keys are of the wrong type")

    async with running(Bench()) as bench:
        with monkeypatch.context() as patched:
            patched.setattr(bench, "write_path", broken)
            for n in range(OPENINGS_IN_FLIGHT + 1):
                bench.subscribe(user=f"user{n}")
            await eventually(lambda: bench.asked.count("open demo") == OPENINGS_IN_FLIGHT + 1, within_s=2)
        bench.subscribe(user="bob")
        await eventually(lambda: bench.asked[-1] == "write own", within_s=2)


async def test_a_subscription_made_without_a_connection_gets_its_queue_with_the_next_one() -> None:
    async with running(Bench(after_s=0)) as bench:
        bench.connected = False
        subscription = bench.subscribe()
        await eventually(lambda: bench.asked == ["open demo"], within_s=2)
        await asyncio.sleep(0.01)
        assert bench.asked == ["open demo"], "nothing is tried again before there is a connection"
        bench.connected = True
        bench.queues.connected([subscription])
        await eventually(lambda: bench.asked[-1] == "write own", within_s=2)
        assert bench.asked == ["open demo", "open demo", "write own"]
