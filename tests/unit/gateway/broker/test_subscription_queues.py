"""Opening all queues of mode Session again. No broker: those that are being opened are counted."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import SESSION_ID_CHARS
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.broker.subscription_queues import REOPEN_BATCH, SubscriptionQueues
from pushcluster_gateway.session.delivery import Phase
from pushcluster_gateway.session.subscription import Subscription
from tests.support.waiting import eventually


class SlowBroker:
    """Opens queues when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()

    def holds_queue(self, queue: str) -> bool:
        return queue.startswith("new")

    async def open_queue(self, *_: Any) -> str:
        self.asked += 1
        await self.go_on.wait()
        return f"new{self.asked}"


class LostSubscription:
    """As much of a subscription as is looked at, of a client of its own."""

    def __init__(self, n: int) -> None:
        self.client = SimpleNamespace(sid="s" * SESSION_ID_CHARS, subscriptions={"k": self})
        self.machine = SimpleNamespace(phase=Phase.LIVE)
        self.destination = Destination("queue", "demo")
        self.queue = f"old{n}"
        self.ended = False


async def test_one_queue_more_than_are_declared_at_once_waits_for_the_others() -> None:
    broker = SlowBroker()
    queues = SubscriptionQueues(
        mode=RoutingMode.SESSION,
        broker=cast(BrokerLink, broker),
        copies=cast(CopyReader, None),
        quota=QueueQuota(REOPEN_BATCH + 1, lambda: 1, max_per_session=1),
        on_lost=lambda _: None,
    )
    subscriptions = [cast(Subscription, LostSubscription(n)) for n in range(REOPEN_BATCH + 1)]
    reopening = asyncio.create_task(queues.reopen(subscriptions))
    await eventually(lambda: broker.asked >= REOPEN_BATCH, within_s=5)
    for _ in range(3):
        await asyncio.sleep(0)
    assert broker.asked == REOPEN_BATCH
    broker.go_on.set()
    await reopening
    assert broker.asked == REOPEN_BATCH + 1
    assert all(subscription.queue.startswith("new") for subscription in subscriptions)
