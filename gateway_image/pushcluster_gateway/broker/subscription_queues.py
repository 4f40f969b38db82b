"""The queues of subscriptions at the broker. Only mode Session has them.

A subscription gets no queue when the quota (`queue_quota.py`) is used up. Then the broker returns its copies to the
dispatcher as unroutable, and the dispatcher sends them to the gateway's own queue.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from pushcluster_contract.routing import RoutingMode, session_key
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.session.delivery import Phase
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_runtime.amqp import Delivery

REOPEN_BATCH: Final = 256
"""Queues to declare at once after a reconnect."""

_log = logging.getLogger(__name__)


class SubscriptionQueues:
    """Opens and closes the queues, and passes what arrives to the subscriptions."""

    def __init__(
        self,
        *,
        mode: RoutingMode,
        broker: BrokerLink,
        copies: CopyReader,
        quota: QueueQuota,
        on_lost: Callable[[Subscription], None],
    ) -> None:
        """`on_lost` is called when somebody deleted a subscription's queue."""
        self._mode = mode
        self._broker = broker
        self._copies = copies
        self._quota = quota
        self._on_lost = on_lost

    def count_without(self, subscriptions: int) -> int:
        """Return how many of all subscriptions have no queue in mode Session; 0 in other modes."""
        return max(0, subscriptions - len(self._quota)) if self._mode is RoutingMode.SESSION else 0

    async def open(self, subscription: Subscription) -> None:
        """Make copies reach the subscription, by a queue of its own if the quota allows. Raise Unavailable."""
        if self._mode is not RoutingMode.SESSION or not self._quota.acquire(subscription):
            subscription.queue = ""
            self._broker.check_connected()
            return
        subscription.queue = await self._broker.open_queue(
            session_key(subscription.destination.name, subscription.client.sid),
            partial(self._on_copies, subscription),
            partial(self._on_cancel, subscription),
        )
        if subscription.ended:
            await self.close(subscription)

    async def close(self, subscription: Subscription) -> bool:
        """Undo `open`, and return whether there was a queue. Closing twice is allowed."""
        self._quota.release(subscription)
        name, subscription.queue = subscription.queue, ""
        if name:
            await self._broker.close_queue(name)
        return bool(name)

    async def close_surplus(self, subscriptions: Iterable[Subscription]) -> bool:
        """Close queues of these subscriptions while the quota is exceeded. Return whether any was closed.

        The copies in a closed queue are lost, so the caller must reread the log.
        """
        surplus = []
        for subscription in subscriptions:
            if subscription.queue and self._quota.is_exceeded:
                self._quota.release(subscription)
                surplus.append(subscription)
        await asyncio.gather(*map(self.close, surplus))
        return bool(surplus)

    async def reopen(self, subscriptions: Iterable[Subscription]) -> None:
        """Open the queues again that were lost with a connection. Raise Unavailable."""
        lost = [subscription for subscription in subscriptions if self._has_lost_its_queue(subscription)]
        for start in range(0, len(lost), REOPEN_BATCH):
            await asyncio.gather(*map(self.open, lost[start : start + REOPEN_BATCH]))

    def _has_lost_its_queue(self, subscription: Subscription) -> bool:
        """Return whether the queue was lost. A subscription still opening its queue learns of its own failure."""
        had_one = bool(subscription.queue) or subscription.machine.phase is not Phase.REGISTERING
        return self._mode is RoutingMode.SESSION and had_one and not self._broker.holds_queue(subscription.queue)

    def _on_copies(self, subscription: Subscription, delivery: Delivery) -> None:
        self._copies.read_subscription_batch(subscription, delivery.body)

    def _on_cancel(self, subscription: Subscription) -> None:
        if not subscription.ended and subscription.queue:
            _log.warning("a subscription's queue was deleted", extra={"queue": subscription.queue})
            self._on_lost(subscription)
