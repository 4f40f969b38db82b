"""A queue at the broker for each subscription: what mode Session has and the other modes do not (step G3)."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from pushcluster_contract.routing import RoutingMode, session_key
from pushcluster_gateway.broker import Broker
from pushcluster_gateway.client_subscription import ClientSubscription
from pushcluster_gateway.copies import CopyReader
from pushcluster_gateway.subscription import Phase
from pushcluster_runtime.amqp import Delivery

REOPEN_BATCH: Final = 256
"""Queues that are declared at once after a reconnect."""

_log = logging.getLogger(__name__)


class SessionQueues:
    """Opens and closes them; hands what arrives to the subscription."""

    def __init__(
        self, *, mode: RoutingMode, broker: Broker, copies: CopyReader, on_lost: Callable[[ClientSubscription], None]
    ) -> None:
        """`on_lost` is told when somebody deleted a subscription's queue."""
        self._mode = mode
        self._broker = broker
        self._copies = copies
        self._on_lost = on_lost

    async def open(self, subscription: ClientSubscription) -> None:
        """Have copies reach the subscription. Raises Unavailable."""
        if self._mode is not RoutingMode.SESSION:
            self._broker.check_connected()
            return
        subscription.queue = await self._broker.open_queue(
            session_key(subscription.destination.name, subscription.client.sid),
            partial(self._on_copies, subscription),
            partial(self._on_cancel, subscription),
        )
        if subscription.ended:
            await self.close(subscription)

    async def close(self, subscription: ClientSubscription) -> None:
        """Undo `open`; twice is allowed."""
        name, subscription.queue = subscription.queue, ""
        if name:
            await self._broker.close_queue(name)

    async def reopen(self, subscriptions: Iterable[ClientSubscription]) -> None:
        """Open again what went with a connection. Raises Unavailable."""
        lost = [subscription for subscription in subscriptions if self._has_lost_its_queue(subscription)]
        for start in range(0, len(lost), REOPEN_BATCH):
            await asyncio.gather(*map(self.open, lost[start : start + REOPEN_BATCH]))

    def _has_lost_its_queue(self, subscription: ClientSubscription) -> bool:
        """One that has never had a queue is opening it, and hears of its own failure."""
        had_one = bool(subscription.queue) or subscription.machine.phase is not Phase.REGISTERING
        return self._mode is RoutingMode.SESSION and had_one and not self._broker.holds(subscription.queue)

    def _on_copies(self, subscription: ClientSubscription, delivery: Delivery) -> None:
        self._copies.for_subscription(subscription, delivery.body)

    def _on_cancel(self, subscription: ClientSubscription) -> None:
        if not subscription.ended and subscription.queue:
            _log.warning("a subscription's queue was deleted", extra={"queue": subscription.queue})
            self._on_lost(subscription)
