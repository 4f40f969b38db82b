"""A session's entry in the registry, from CONNECT to its end. Every call that writes the entry is here.

The entry is removed only after the last of these calls, so that none of them writes it again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_gateway import close_codes
from pushcluster_gateway.broker.subscription_queues import SubscriptionQueues
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry.cursor_flusher import CursorFlusher
from pushcluster_gateway.registry.lease_keeper import LeaseKeeper
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.delivery import LogState
from pushcluster_gateway.session.errors import TooManySessions
from pushcluster_gateway.session.hub import Hub
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_gateway.session.tasks import ClientTasks

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RegistrationDependencies:
    """What a registration works with: the registry, the lease, the cursors and the queues."""

    registry: SessionRegistry
    lease_keeper: LeaseKeeper
    cursors: CursorFlusher
    queues: SubscriptionQueues


class SessionRegistration:
    """Writes the entries of this gateway's sessions. Its methods raise only Unavailable and TooManySessions."""

    def __init__(
        self,
        dependencies: RegistrationDependencies,
        *,
        hub: Hub,
        tasks: ClientTasks,
        limits: Limits,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._registry = dependencies.registry
        self._lease_keeper = dependencies.lease_keeper
        self._cursors = dependencies.cursors
        self._queues = dependencies.queues
        self._hub = hub
        self._tasks = tasks
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._redis_ahead_ms = 0

    def redis_now_ms(self) -> int:
        """Return Redis TIME in ms: the last answer of Redis, and what has passed since by the monotonic clock.

        The wall clock has no part in it. It may be set at any time, and would then expire messages or keep them.
        """
        return int(self._clock() * 1_000) + self._redis_ahead_ms

    async def register(self, client: Client) -> None:
        """Register the session: take a lease first, then write the entry."""
        await self._lease_keeper.ensure_lease()
        if not client.ended:  # a session that has left must not come back
            await self._register(client)

    async def _register(self, client: Client) -> None:
        with self._writing(client):
            try:
                await self._registry.register(client.user, client.sid)
            except TooManySessions:
                await self._remove_lost_or_wait(client.user)
                if client.ended:
                    return
                await self._registry.register(client.user, client.sid)
        if not client.ended:
            client.registered()

    async def leave(self, client: Client) -> None:
        """Flush the cursors and delete the queues, then remove the entry."""
        await asyncio.gather(
            self._tasks.until_available(self._cursors.flush),
            *map(self._queues.close, client.subscriptions.values()),
        )
        await self._tasks.until_available(partial(self._registry.leave, client.user, client.sid))
        client.left()

    async def subscribe(self, client: Client, subscription: Subscription) -> None:
        """Subscribe: flush the cursor, write the destination into the entry, start the catch-up.

        Once the script has run, every message is in the log, or its copy goes to the gateway's queue. While the broker
        is away there is no such queue: then the walk reads the log more often, and the next connection rereads it.
        """
        try:
            subscriptions = self._hub.addressed(subscription.address)
            await self._cursors.flush_destination(client.user, subscription.destination, subscriptions)
            if subscription.ended:
                return  # its session may have left the registry meanwhile, and must not come back
            with self._writing(client):
                given = subscription.last_message_id
                log = await self._write_destination(client, subscription.destination, given)
            subscription.subscribed(log)
            self._queues.begin(subscription)
        finally:
            if subscription.ended:
                self._tasks.spawn(partial(self.unsubscribe, client, subscription), client)

    async def unsubscribe(self, client: Client, subscription: Subscription) -> None:
        """Undo `subscribe`, for a subscription that has ended."""
        destination = subscription.destination
        had_queue = await self._queues.close(subscription)
        if client.ended:
            return
        if had_queue:
            await self.reread_sharers(subscription)
        if not _subscribed(client, destination):
            await self._remove_destination(client, destination)

    async def refresh(self, client: Client, *, resync: bool) -> None:
        """Write a registered session again.

        The entry of a session with subscriptions is only added to, so that no running SUBSCRIBE is undone.
        """
        if client.ended or not client.is_registered:
            return
        self._queues.leave_surplus(client.subscriptions.values())
        with self._writing(client), _ending_one_too_many(client):
            await self._registry.refresh_member(client.user, client.sid)
            if not client.subscriptions:
                await self._registry.register(client.user, client.sid)
                resync = True
            for destination in dict.fromkeys(s.destination for s in client.subscriptions.values()):
                await self._refresh_destination(client, destination, resync=resync)

    # EntryWriter

    async def write_path(self, subscription: Subscription) -> None:
        """Have dispatchers publish where the subscription's path says. Nothing is written once it has ended."""
        client = self._hub.find(subscription.client.sid)
        if client is not None and not subscription.ended:
            await self._rewrite(client, subscription.destination, resync=False)

    async def reread_sharers(self, subscription: Subscription) -> None:
        """Read the log again for what may have got copies by the subscription's queue, which is gone.

        This is every subscription of the session that has the same routing key and no queue.
        """
        client, name = self._hub.find(subscription.client.sid), subscription.destination.name
        if client is not None:
            held = [s for s in client.subscriptions.values() if s.destination.name == name and not s.path.queue]
            for destination in dict.fromkeys(s.destination for s in held):
                await self._rewrite(client, destination, resync=True)

    async def _rewrite(self, client: Client, destination: Destination, *, resync: bool) -> None:
        with self._writing(client), _ending_one_too_many(client):
            await self._tasks.until_available(
                partial(self._refresh_destination, client, destination, resync=resync),
                wanted=lambda: bool(not client.ended and _subscribed(client, destination)),
            )

    async def _remove_destination(self, client: Client, destination: Destination) -> None:
        with self._writing(client):
            await self._tasks.until_available(
                partial(self._registry.unsubscribe, client.user, client.sid, destination),
                wanted=lambda: not client.ended,
            )
            if _subscribed(client, destination):
                # The client subscribed again meanwhile, and the script may have undone that.
                await self._refresh_destination(client, destination, resync=True)

    async def _refresh_destination(self, client: Client, destination: Destination, *, resync: bool) -> None:
        positions = {s: s.machine.position for s in _subscribed(client, destination)}
        log = await self._write_destination(client, destination)
        for subscription, asked_at in positions.items():
            subscription.refreshed(log, asked_at, resync=resync)
        if not client.ended and not _subscribed(client, destination):
            # The client unsubscribed meanwhile, and the script may have undone that.
            await self._registry.unsubscribe(client.user, client.sid, destination)

    async def _write_destination(
        self, client: Client, destination: Destination, given: StreamId | None = None
    ) -> LogState:
        without_queue = self._queues.are_used and not any(s.path.used for s in _subscribed(client, destination))
        log, now_ms = await self._registry.subscribe(
            client.user, client.sid, destination, without_queue=without_queue, given=given
        )
        self._redis_ahead_ms = now_ms - int(self._clock() * 1_000)
        return log

    async def _remove_lost_or_wait(self, user: str) -> None:
        """Remove the user's sessions at lost gateways. If there are none, wait for a session that may be leaving."""
        removed = 0
        # A gateway is lost only if it could have renewed its lease: Redis must have been answering all the time.
        if self._lease_keeper.redis_answering_s >= self._limits.lost_gateway_s:
            removed = await self._registry.remove_lost(user)
        if removed:
            self._metrics.lost_sessions_removed += removed
            _log.warning("a user at the session limit: removed sessions of lost gateways", extra={"sessions": removed})
        else:
            await asyncio.sleep(self._limits.leaving_session_s)

    @contextmanager
    def _writing(self, client: Client) -> Iterator[None]:
        """Wrap calls that may write the session's entry. The entry is removed only after the last of them."""
        client.entry_written = True
        client.registry_calls += 1
        try:
            yield
        finally:
            client.registry_calls -= 1
            if client.socket_lost and not client.registry_calls:
                self._tasks.spawn(partial(self.leave, client), client)


def _subscribed(client: Client, destination: Destination) -> list[Subscription]:
    return [s for s in client.subscriptions.values() if s.destination == destination and not s.ended]


@contextmanager
def _ending_one_too_many(client: Client) -> Iterator[None]:
    """End the client if its entry was removed and its user has had the maximum of sessions since."""
    try:
        yield
    except TooManySessions as error:
        client.fail(close_codes.TOO_MANY_SESSIONS, str(error))
