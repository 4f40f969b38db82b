"""The queues of subscriptions at the broker. Only mode Session has them.

A subscription gets one when it has lasted for `Limits.own_queue_after_s`. Until then its copies come over the gateway's
queue, so that a storm of clients ends with the last RECEIPT, and a client that subscribes and unsubscribes in a loop
costs the broker nothing. A subscription gets no queue when the quota (`queue_quota.py`) is used up.

`CopyPath` decides what comes next for one subscription. Here its steps are taken, for OPENINGS_IN_FLIGHT subscriptions
at once.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.routing import RoutingMode, session_key
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.broker.copy_hops import CopyHops
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.session.copy_path import Step
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_runtime.amqp import Delivery

OPENINGS_IN_FLIGHT: Final = 8
"""Subscriptions whose queues are opened at once. The gateway's queue carries the copies of others meanwhile."""

_log = logging.getLogger(__name__)


class EntryWriter(Protocol):
    """Writes sessions' entries (`SessionRegistration`). A method returns when the registry has answered."""

    async def write_path(self, subscription: Subscription) -> None:
        """Have dispatchers publish where the subscription's path says. Nothing is written once it has ended."""

    async def reread_sharers(self, subscription: Subscription) -> None:
        """Read the log again for what may have got copies by the subscription's queue, which is gone."""


class SubscriptionQueues:
    """Opens and closes the queues, and passes what arrives to the subscriptions."""

    def __init__(
        self,
        *,
        mode: RoutingMode,
        broker: BrokerLink,
        copies: CopyReader,
        hops: CopyHops,
        quota: QueueQuota,
        own_queue_after_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`clock` returns seconds of the event loop. Set `entries` before `run` runs."""
        self.entries: EntryWriter
        self._mode = mode
        self._broker = broker
        self._copies = copies
        self._hops = hops
        self._quota = quota
        self._own_queue_after_s = own_queue_after_s
        self._clock = clock
        self._young: OrderedDict[Subscription, float] = OrderedDict()
        """Subscriptions that have not lasted long enough → from when on they have. Oldest first."""
        self._first_came = asyncio.Event()
        self._refused: set[Subscription] = set()
        """Subscriptions for which the quota had no slot."""
        self._switching: set[Subscription] = set()
        """Subscriptions with steps left. Each is in `_work`, or some worker has it."""
        self._work: asyncio.Queue[Subscription] = asyncio.Queue()

    @property
    def count_without(self) -> int:
        """How many subscriptions have no queue because the quota is used up."""
        return len(self._refused)

    @property
    def are_used(self) -> bool:
        """Whether subscriptions can have queues of their own, which depends on the mode."""
        return self._mode is RoutingMode.SESSION

    def begin(self, subscription: Subscription) -> None:
        """Let the subscription have a queue of its own once it has lasted long enough."""
        if self.are_used and not subscription.ended:
            self._young[subscription] = self._clock() + self._own_queue_after_s
            self._first_came.set()

    def end(self, subscription: Subscription) -> None:
        """Undo `begin`. Ending twice is allowed. `close` deletes the queue if there is one."""
        self._young.pop(subscription, None)
        self._refused.discard(subscription)
        self._quota.release(subscription)
        subscription.path.use_gateway_queue()

    async def close(self, subscription: Subscription) -> bool:
        """Delete the queue of a subscription that has ended. Return whether there was one. Closing twice is allowed.

        A queue that is being opened at this moment is deleted as soon as it is open.
        """
        self.end(subscription)
        queue = subscription.path.take_queue()
        if queue:
            await self._broker.close_queue(queue)
        return bool(queue)

    def leave_surplus(self, subscriptions: Iterable[Subscription]) -> None:
        """Let these subscriptions go back to the gateway's queue while the quota is exceeded."""
        for subscription in subscriptions:
            if subscription.path.queue and self._quota.is_exceeded:
                self.end(subscription)
                self._refused.add(subscription)
                self._switch(subscription)

    # What the broker's connection calls

    def connected(self, subscriptions: Iterable[Subscription]) -> None:
        """Open the queues again that were lost with the former connection. The caller rereads all logs."""
        for subscription in subscriptions:
            if subscription.path.connection_lost():
                self._switch(subscription)

    # The loops

    async def run(self) -> None:
        """Open and close queues, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wait_for_young())
            for _ in range(OPENINGS_IN_FLIGHT):
                group.create_task(self._take_steps())

    async def _wait_for_young(self) -> None:
        while True:
            self._first_came.clear()
            while self._young:
                subscription, due = next(iter(self._young.items()))
                left_s = due - self._clock()
                if left_s > 0:
                    await asyncio.sleep(left_s)
                    continue  # it may have ended meanwhile
                del self._young[subscription]
                if not subscription.ended:
                    subscription.path.use_own_queue()
                    self._switch(subscription)
            await self._first_came.wait()

    def _switch(self, subscription: Subscription) -> None:
        """Have the steps taken that the subscription's path still needs."""
        if subscription not in self._switching:
            self._switching.add(subscription)
            self._work.put_nowait(subscription)

    async def _take_steps(self) -> None:
        while True:
            subscription = await self._work.get()
            try:
                while (step := subscription.path.next_step()) is not None:
                    await self._take(step, subscription)
            except Unavailable:
                pass  # the connection to RabbitMQ is lost, and `connected` comes after the next one
            except Exception:
                _log.exception("a subscription stays on its queue", extra={"session": subscription.client.sid})
            self._switching.discard(subscription)

    async def _take(self, step: Step, subscription: Subscription) -> None:
        path = subscription.path
        match step:
            case Step.OPEN:
                await self._open(subscription)
            case Step.USE:
                path.using()
                await self.entries.write_path(subscription)
            case Step.LEAVE:
                path.leaving()
                await self.entries.write_path(subscription)
            case Step.DELETE:
                await self._broker.close_queue(path.take_queue())
            case Step.REREAD:
                path.rereading()
                await self.entries.reread_sharers(subscription)

    async def _open(self, subscription: Subscription) -> None:
        if subscription.ended:
            self.end(subscription)
            return
        if not self._quota.acquire(subscription):
            self.end(subscription)
            self._refused.add(subscription)
            return
        queue = await self._broker.open_queue(
            session_key(subscription.destination.name, subscription.client.sid),
            partial(self._on_copies, subscription),
            partial(self._on_cancel, subscription),
        )
        subscription.path.opened(queue)

    def _on_copies(self, subscription: Subscription, delivery: Delivery) -> None:
        self._copies.read_subscription_batch(subscription, delivery.body, self._hops.find(delivery))

    def _on_cancel(self, subscription: Subscription) -> None:
        if subscription.path.queue and not subscription.ended:
            _log.warning("a subscription's queue was deleted", extra={"queue": subscription.path.queue})
            subscription.path.queue_deleted()
            self._switch(subscription)
