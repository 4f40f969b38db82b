"""The services behind all clients: implements `ports.Services` over registry, broker, keeper and cursors.

What a client asks for becomes a task that lives as long as the answer takes. A task never raises: what time can mend
becomes an ERROR frame that asks to try again, what nobody expected a log record and an ERROR frame.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pushcluster_contract.batch import BATCH_TYPE
from pushcluster_contract.control import CONTROL_TYPE, Disconnect
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.ids import SESSION_ID_ENTROPY_BYTES, session_id
from pushcluster_contract.outcomes import MessageOutcome
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway import closes
from pushcluster_gateway.auth import Authenticator, KeyUnknown
from pushcluster_gateway.broker import Broker
from pushcluster_gateway.client import Client
from pushcluster_gateway.client_subscription import ClientSubscription
from pushcluster_gateway.copies import CopyReader
from pushcluster_gateway.cursors import CursorFlusher
from pushcluster_gateway.hub import Hub
from pushcluster_gateway.keeper import Keeper
from pushcluster_gateway.lease import Cause
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.outcomes import Outcomes
from pushcluster_gateway.outside import Outside
from pushcluster_gateway.ports import Rejected
from pushcluster_gateway.registry import Registry, TooManySessions
from pushcluster_gateway.session_queues import SessionQueues
from pushcluster_gateway.stomp.errors import ProtocolViolation
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_gateway.stomp.serializer import TailEncoder
from pushcluster_gateway.subscription import ReadPage
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.backoff import Backoff

_log = logging.getLogger(__name__)

_Work = Callable[[], Coroutine[Any, Any, None]]


class Gateway:
    """One process's services. `attach` completes it: registry and broker need it, and it needs them."""

    registry: Registry
    broker: Broker
    keeper: Keeper
    cursors: CursorFlusher
    queues: SessionQueues
    outcomes: Outcomes

    def __init__(
        self,
        *,
        mode: RoutingMode,
        pod_name: str,
        server_name: str,
        limits: Limits,
        metrics: Metrics,
        authenticator: Authenticator,
        outside: Outside,
    ) -> None:
        self.hub = Hub()
        self.limits = limits
        self.metrics = metrics
        self.tails = TailEncoder()
        self._authenticator = authenticator
        self.pod_name = pod_name
        self.server_name = server_name
        self.clock = outside.clock
        self.wall_clock = outside.wall_clock
        self._mode = mode
        self._outside = outside
        self._redis_ahead_ms = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._was_connected = False

    def attach(self, *, registry: Registry, broker: Broker, keeper: Keeper, cursors: CursorFlusher) -> None:
        """Give it its shells."""
        self.registry = registry
        self.broker = broker
        self.keeper = keeper
        self.cursors = cursors
        self._copies = CopyReader(
            self.hub, self.metrics, on_left_out=lambda: keeper.request_resync(Cause.COPIES_LEFT_OUT)
        )
        self.queues = SessionQueues(mode=self._mode, broker=broker, copies=self._copies, on_lost=self._on_queue_lost)
        call_later = asyncio.get_running_loop().call_later
        self.outcomes = Outcomes(broker.tell, pod_name=self.pod_name, metrics=self.metrics, call_later=call_later)

    # ports.Services

    def redis_now_ms(self) -> int:
        """Return Redis TIME in ms, by the local clock and what its last answer showed."""
        return int(self.wall_clock() * 1_000) + self._redis_ahead_ms

    def new_session_id(self) -> str:
        """Return an id that was never used."""
        return session_id(self._outside.entropy(SESSION_ID_ENTROPY_BYTES))

    def authenticate(self, client: Client, request: Connect, handshake_token: str) -> None:
        """Before step G2: say who the client is, at once when the keys for that are here."""
        try:
            identity = self._authenticator.identify(request, handshake_token)
        except KeyUnknown as unknown:
            self._spawn(partial(self._authenticate_anew, client, request, handshake_token, unknown), client)
        else:
            client.authenticated(request, identity)

    def register(self, client: Client) -> None:
        """Step G2."""
        self.hub.add(client)
        self._spawn(partial(self._register, client), client)

    def leave(self, client: Client) -> None:
        """Take the session out of everything, once no call that may write its entry is under way."""
        for subscription in client.subscriptions.values():
            self.cursors.collect(subscription)
        self.hub.remove(client)
        _log.info("session ended", extra={"session": client.sid, "cause": client.socket.cause_name})
        if not client.calls:
            self._spawn(partial(self._leave, client), client)

    def subscribe(self, subscription: ClientSubscription) -> None:
        """Step G3."""
        self.hub.add_subscription(subscription)
        self._spawn_call(partial(self._subscribe, subscription), subscription.client, subscription.receipt)

    def unsubscribe(self, subscription: ClientSubscription) -> None:
        """Undo step G3."""
        self.cursors.collect(subscription)
        self.hub.remove_subscription(subscription)
        self._spawn_call(partial(self._undo_subscribe, subscription), subscription.client, None)

    def read_page(self, subscription: ClientSubscription, asked: ReadPage) -> None:
        """Step G4."""
        self._spawn(partial(self._read_page, subscription, asked), subscription.client)

    def reject(self, client: Client, rejected: Sequence[Rejected], receipt: str | None) -> None:
        """NACK."""
        self._spawn_call(partial(self._reject, client, rejected, receipt), client, receipt)

    def cursor_moved(self, subscription: ClientSubscription) -> None:
        """Step G7."""
        self.cursors.mark(subscription)

    # What the broker calls

    def on_gateway_message(self, delivery: Delivery) -> None:
        """Something came to the gateway's own queue: copies, or what a dispatcher tells this gateway."""
        message_type = delivery.properties.type
        if message_type == BATCH_TYPE:
            self._copies.for_gateway(delivery.body)
        elif message_type == CONTROL_TYPE:
            self._obey(delivery)
        else:
            self.metrics.batches_refused += 1
            _log.warning("a message of an unknown type", extra={"type": str(message_type)[:100]})

    def _obey(self, delivery: Delivery) -> None:
        """Do what a dispatcher tells this gateway."""
        try:
            asked = Disconnect.parse(delivery.properties.headers or {})
        except InvalidInput as error:
            _log.warning("a control message cannot be read", extra={"cause": str(error)})
            return
        client = self.hub.find(asked.sid)
        if client is not None and client.user == asked.user:
            client.refuse(closes.DISCONNECTED)

    async def on_broker_connected(self) -> None:
        """After the first connect there is nothing to do; after later ones the queues of all subscriptions are gone."""
        await self.queues.reopen(self.hub.subscriptions())
        if self._was_connected:
            self.keeper.request_resync(Cause.AMQP_RECONNECTED)
        self._was_connected = True

    # What the keeper calls

    async def refresh(self, client: Client, resync: bool) -> None:  # noqa: FBT001 - keeper.Refresh
        """Write a session back; only additive once it has subscriptions, so that no SUBSCRIBE under way is undone."""
        if client.ended or not client.user:
            return
        with self._writing(client):
            await self.registry.refresh_member(client.user, client.sid)
            try:
                if not client.subscriptions:
                    await self.registry.register(client.user, client.sid)
                    resync = True
                for destination in dict.fromkeys(s.destination for s in client.subscriptions.values()):
                    await self._refresh_destination(client, destination, resync=resync)
            except TooManySessions as error:
                client.fail(closes.TOO_MANY_SESSIONS, str(error))

    # Ends

    async def settle(self, within_s: float) -> None:
        """Wait for what is under way, then give it up."""
        deadline = self.clock() + within_s
        while self._tasks and (left_s := deadline - self.clock()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def finish(self) -> None:
        """Flush the cursors, and take everything that is left out of the registry, the lease last."""
        try:
            await self.cursors.flush()
            await self.registry.end()
        except Unavailable as error:
            _log.warning("the registry was left as it is: the operator removes it", extra={"cause": str(error)})

    # Tasks

    def _spawn(self, work: _Work, client: Client, receipt: str | None = None) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._guard(work, client, receipt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn_call(self, work: _Work, client: Client, receipt: str | None) -> None:
        """Do what a client's own frame asked for: their number is bounded by the client itself."""
        self._spawn(work, client, receipt).add_done_callback(lambda _: client.call_ended())

    async def _guard(self, work: _Work, client: Client, receipt: str | None) -> None:
        try:
            await work()
        except Unavailable as error:
            self.metrics.calls_failed += 1
            client.fail(closes.unavailable(error.retry_after_ms), str(error), receipt)
        except TooManySessions as error:
            client.fail(closes.TOO_MANY_SESSIONS, str(error), receipt)
        except ProtocolViolation as violation:
            client.fail(violation.close, str(violation), receipt)
        except Exception:
            _log.exception("a client's request failed", extra={"session": client.sid})
            client.fail(closes.INTERNAL_ERROR, "an unexpected error, see the gateway's log", receipt)

    @contextmanager
    def _writing(self, client: Client) -> Iterator[None]:
        """Around calls that may write the session's entry: it leaves the registry only after the last of them."""
        client.calls += 1
        try:
            yield
        finally:
            client.calls -= 1
            if client.gone and not client.calls:
                self._spawn(partial(self._leave, client), client)

    async def _authenticate_anew(
        self, client: Client, request: Connect, handshake_token: str, unknown: KeyUnknown
    ) -> None:
        """The keys may be older than the token: have them read once more, and decide."""
        identity = await self._authenticator.identify_anew(request, handshake_token, unknown)
        if not client.ended:
            client.authenticated(request, identity)

    async def _register(self, client: Client) -> None:
        with self._writing(client):
            await self.keeper.ensure_lease()
            try:
                await self.registry.register(client.user, client.sid)
            except TooManySessions:
                await self._make_room(client.user)
                if client.ended:
                    return
                await self.registry.register(client.user, client.sid)
        if not client.ended:
            client.registered()

    async def _make_room(self, user: str) -> None:
        """Give up the user's sessions at lost gateways; without any, wait for one that is just leaving."""
        removed = 0
        # Only while Redis has answered can it tell of a gateway that it was not able to renew its lease.
        if self.keeper.steady_s >= self.limits.lost_gateway_s:
            removed = await self.registry.remove_lost(user)
        if removed:
            self.metrics.lost_sessions_removed += removed
            _log.warning("removed sessions of lost gateways", extra={"sessions": removed})
        else:
            await asyncio.sleep(self.limits.leaving_session_s)

    async def _leave(self, client: Client) -> None:
        await asyncio.gather(
            self._until_available(self.cursors.flush),
            *map(self.queues.close, client.subscriptions.values()),
        )
        await self._until_available(partial(self.registry.leave, client.user, client.sid))

    async def _subscribe(self, subscription: ClientSubscription) -> None:
        client = subscription.client
        try:
            # The order is what makes it safe: once the script has run, every message is in the log or in this queue.
            await self.queues.open(subscription)
            standing = self.hub.addressed(subscription.address)
            await self.cursors.flush_destination(client.user, subscription.destination, standing)
            if subscription.ended:
                return  # its session may have left the registry meanwhile, and must not come back
            with self._writing(client):
                log, now_ms = await self.registry.subscribe(client.user, client.sid, subscription.destination)
            self._redis_ahead_ms = now_ms - int(self.wall_clock() * 1_000)
            client.subscribed(subscription, log)
        finally:
            if subscription.ended:
                self._spawn(partial(self._undo_subscribe, subscription), client)

    async def _undo_subscribe(self, subscription: ClientSubscription) -> None:
        client, destination = subscription.client, subscription.destination
        await self.queues.close(subscription)
        if client.ended or self._subscribed(client, destination):
            return
        with self._writing(client):
            await self._until_available(
                partial(self.registry.unsubscribe, client.user, client.sid, destination),
                wanted=lambda: not client.ended,
            )
            if self._subscribed(client, destination):
                # The client came back to it meanwhile, and the script may have undone that.
                await self._refresh_destination(client, destination, resync=True)

    async def _refresh_destination(self, client: Client, destination: Destination, *, resync: bool) -> None:
        positions = {s: s.machine.position for s in self._subscribed(client, destination)}
        log, now_ms = await self.registry.subscribe(client.user, client.sid, destination)
        self._redis_ahead_ms = now_ms - int(self.wall_clock() * 1_000)
        for subscription, asked_at in positions.items():
            client.refreshed(subscription, log, asked_at, resync=resync)

    async def _read_page(self, subscription: ClientSubscription, asked: ReadPage) -> None:
        client = subscription.client
        entries = await self._until_available(
            partial(self.registry.read_page, client.user, subscription.destination, asked.after, asked.limit),
            wanted=lambda: not subscription.ended,
        )
        if entries is not None:
            self.metrics.pages_read += 1
            client.page_read(subscription, asked, entries)

    async def _reject(self, client: Client, rejected: Sequence[Rejected], receipt: str | None) -> None:
        for number, (subscription, message_ids) in enumerate(rejected, start=1):
            for message_id in message_ids:
                entry = await self.registry.read_entry(client.user, subscription.destination, message_id)
                if entry is None:
                    _log.warning("a rejected message had left the log", extra={"message_id": str(message_id)})
                else:
                    await self.broker.reject(client.user, subscription.destination, entry)
                    self.metrics.messages_rejected += 1
            self.outcomes.settled(subscription, message_ids, MessageOutcome.REJECTED)
            client.settled(subscription, message_ids, receipt if number == len(rejected) else None)

    async def _reopen_queue(self, subscription: ClientSubscription) -> None:
        await self.queues.close(subscription)
        try:
            await self.queues.open(subscription)
        except Unavailable:
            return  # the connection is lost too, and all queues are opened once there is a new one
        await self._until_available(partial(self.refresh, subscription.client, resync=True))

    def _on_queue_lost(self, subscription: ClientSubscription) -> None:
        self._spawn(partial(self._reopen_queue, subscription), subscription.client)

    def _subscribed(self, client: Client, destination: Destination) -> list[ClientSubscription]:
        return [s for s in client.subscriptions.values() if s.destination == destination and not s.ended]

    async def _until_available(
        self, call: Callable[[], Coroutine[Any, Any, Any]], wanted: Callable[[], bool] = lambda: True
    ) -> Any:
        """Repeat a call until Redis answers it; None when it is not wanted any more."""
        backoff = Backoff(self._outside.random)
        while wanted():
            try:
                return await call()
            except Unavailable:
                self.metrics.redis_errors += 1
                await asyncio.sleep(backoff.next_delay_s())
        return None
