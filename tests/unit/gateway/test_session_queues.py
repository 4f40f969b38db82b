"""Opening all queues of mode Session again. No broker: those that are being opened are counted."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import SESSION_ID_CHARS
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway.broker import Broker
from pushcluster_gateway.client_subscription import ClientSubscription
from pushcluster_gateway.copies import CopyReader
from pushcluster_gateway.room import Room
from pushcluster_gateway.session_queues import REOPEN_BATCH, SessionQueues
from pushcluster_gateway.subscription import Phase
from tests.support.waiting import eventually


class SlowBroker:
    """Opens queues when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()

    def holds(self, queue: str) -> bool:
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
    queues = SessionQueues(
        mode=RoutingMode.SESSION,
        broker=cast(Broker, broker),
        copies=cast(CopyReader, None),
        room=Room(REOPEN_BATCH + 1, lambda: 1, max_per_session=1),
        on_lost=lambda _: None,
    )
    subscriptions = [cast(ClientSubscription, LostSubscription(n)) for n in range(REOPEN_BATCH + 1)]
    reopening = asyncio.create_task(queues.reopen(subscriptions))
    await eventually(lambda: broker.asked >= REOPEN_BATCH, within_s=5)
    for _ in range(3):
        await asyncio.sleep(0)
    assert broker.asked == REOPEN_BATCH
    broker.go_on.set()
    await reopening
    assert broker.asked == REOPEN_BATCH + 1
    assert all(subscription.queue.startswith("new") for subscription in subscriptions)
