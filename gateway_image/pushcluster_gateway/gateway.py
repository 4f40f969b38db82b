"""The services behind all clients: implements `ClientServices` with the registry, broker, lease keeper and cursors.

Each request of a client becomes a task (`session.tasks`). The writes to its entry in the registry are in
`registration`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from pushcluster_contract.batch import BATCH_TYPE
from pushcluster_contract.control import CONTROL_TYPE, Disconnect
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.ids import SESSION_ID_ENTROPY_BYTES, session_id
from pushcluster_contract.outcomes import MessageOutcome
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway import close_codes
from pushcluster_gateway.auth.authenticator import Authenticator, KeyUnknown
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.broker.copy_hops import CopyHops
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.broker.subscription_queues import SubscriptionQueues
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.refused import RefusedMessages
from pushcluster_gateway.registration import RegistrationDependencies, SessionRegistration
from pushcluster_gateway.registry.cursor_flusher import CursorFlusher
from pushcluster_gateway.registry.lease import ResyncCause
from pushcluster_gateway.registry.lease_keeper import LeaseKeeper
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_gateway.session.client import Client, Rejected
from pushcluster_gateway.session.delivery import ReadPage
from pushcluster_gateway.session.hub import Hub
from pushcluster_gateway.session.outcomes import OutcomeReporter
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_gateway.session.tasks import ClientTasks
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_gateway.stomp.serializer import TailEncoder
from pushcluster_runtime.amqp import Delivery

_log = logging.getLogger(__name__)


class Gateway:
    """The services of one process. `attach` completes it, because the registry and broker need it and it needs them."""

    registry: SessionRegistry
    broker: BrokerLink
    lease_keeper: LeaseKeeper
    cursors: CursorFlusher
    queues: SubscriptionQueues
    outcomes: OutcomeReporter
    sessions: SessionRegistration

    def __init__(
        self,
        *,
        mode: RoutingMode,
        pod_name: str,
        server_name: str,
        limits: Limits,
        metrics: Metrics,
        authenticator: Authenticator,
        environment: Environment,
    ) -> None:
        self.hub = Hub()
        self.limits = limits
        self.metrics = metrics
        self.tails = TailEncoder()
        self._authenticator = authenticator
        self.pod_name = pod_name
        self.server_name = server_name
        self.clock = environment.clock
        self.wall_clock = environment.wall_clock
        self._mode = mode
        self._environment = environment
        self._tasks = ClientTasks(metrics, environment)
        self._hops = CopyHops(metrics, environment.wall_clock)
        self._was_connected = False

    def attach(
        self,
        *,
        registry: SessionRegistry,
        broker: BrokerLink,
        lease_keeper: LeaseKeeper,
        cursors: CursorFlusher,
        quota: QueueQuota,
    ) -> None:
        """Set what does the I/O: the registry, the broker and what uses them."""
        self.registry = registry
        self.broker = broker
        self.lease_keeper = lease_keeper
        self.cursors = cursors
        self._copies = CopyReader(
            self.hub, self.metrics, on_left_out=lambda: lease_keeper.request_resync(ResyncCause.COPIES_LEFT_OUT)
        )
        self.queues = SubscriptionQueues(
            mode=self._mode,
            broker=broker,
            copies=self._copies,
            hops=self._hops,
            quota=quota,
            own_queue_after_s=self.limits.own_queue_after_s,
            clock=self.clock,
        )
        self.sessions = SessionRegistration(
            RegistrationDependencies(registry, lease_keeper, cursors, self.queues),
            hub=self.hub,
            tasks=self._tasks,
            limits=self.limits,
            metrics=self.metrics,
            clock=self.clock,
        )
        self.queues.entries = self.sessions
        self._refused = RefusedMessages(registry, broker, limits=self.limits, metrics=self.metrics, clock=self.clock)
        call_later = asyncio.get_running_loop().call_later
        self.outcomes = OutcomeReporter(
            broker.send_outcome,
            pod_name=self.pod_name,
            metrics=self.metrics,
            call_later=call_later,
            clock=self.clock,
        )

    # ClientServices

    def redis_now_ms(self) -> int:
        """Return Redis TIME in ms, estimated from the last answer of Redis and the monotonic clock."""
        return self.sessions.redis_now_ms()

    def new_session_id(self) -> str:
        """Return a new session id, which no session had before."""
        return session_id(self._environment.entropy(SESSION_ID_ENTROPY_BYTES))

    def authenticate(self, client: Client, request: Connect, handshake_token: str) -> Callable[[], object] | None:
        """Identify the user of a CONNECT: at once when the cached keys suffice, else in a task.

        Return what cancels that task, or None when there is none. Raise Unauthenticated.
        """
        try:
            identity = self._authenticator.identify(request, handshake_token)
        except KeyUnknown as unknown:
            work = partial(self._authenticate_after_refresh, client, request, handshake_token, unknown)
            return self._tasks.spawn(work, client).cancel
        client.authenticated(request, identity)
        return None

    def register(self, client: Client) -> None:
        """Register the session."""
        self.hub.add(client)
        self._tasks.spawn(partial(self.sessions.register, client), client)

    def leave(self, client: Client) -> None:
        """Remove the session from the hub, and from the registry once no call that may write its entry is running."""
        for subscription in client.subscriptions.values():
            self.cursors.collect(subscription)
        self.hub.remove(client)
        _log.info("session ended", extra={"session": client.sid, "cause": client.socket.cause_name})
        if not client.entry_written:
            client.left()
        elif not client.registry_calls:
            self._tasks.spawn(partial(self.sessions.leave, client), client)

    def subscribe(self, client: Client, subscription: Subscription) -> None:
        """Subscribe: write the registry entry, start the catch-up."""
        self.hub.add_subscription(subscription)
        self._tasks.spawn_call(partial(self.sessions.subscribe, client, subscription), client, subscription.receipt)

    def unsubscribe(self, client: Client, subscription: Subscription) -> None:
        """Undo `subscribe`."""
        self.cursors.collect(subscription)
        self.hub.remove_subscription(subscription)
        self._tasks.spawn_call(partial(self.sessions.unsubscribe, client, subscription), client, None)

    def read_page(self, subscription: Subscription, asked: ReadPage) -> None:
        """Read a page of the log for a subscription in CATCHUP. An error that is not Unavailable ends its client."""
        self._tasks.spawn(partial(self._read_page, subscription, asked), subscription.client)

    def reject(self, client: Client, rejected: Sequence[Rejected], receipt: str | None) -> None:
        """Copy messages that the client refused by NACK to `push.refused`."""
        self._tasks.spawn_call(partial(self._reject, client, rejected, receipt), client, receipt)

    def cursor_moved(self, subscription: Subscription) -> None:
        """Have the subscription's cursor flushed to the registry."""
        self.cursors.schedule(subscription)

    # What the broker calls

    def on_gateway_message(self, delivery: Delivery) -> None:
        """Handle a message in the gateway's own queue: a batch of copies, or a control message from a dispatcher."""
        message_type = delivery.properties.type
        if message_type == BATCH_TYPE:
            self._copies.read_gateway_batch(delivery.body, self._hops.find(delivery))
        elif message_type == CONTROL_TYPE:
            self._handle_control(delivery)
        else:
            self.metrics.batches_refused += 1
            _log.warning("ignored a message of an unknown type", extra={"type": str(message_type)[:100]})

    def _handle_control(self, delivery: Delivery) -> None:
        """Handle a control message from a dispatcher."""
        try:
            asked = Disconnect.parse(delivery.properties.headers or {})
        except InvalidInput as error:
            _log.warning("a control message cannot be read", extra={"cause": str(error)})
            return
        client = self.hub.find(asked.sid)
        if client is not None and client.user == asked.user:
            client.refuse(close_codes.DISCONNECTED)

    async def on_broker_connected(self) -> None:
        """Open the queues of all subscriptions again, and reread their logs.

        The queues were lost with the former connection. Before the first one, copies had no queue to come to.
        """
        self.queues.connected(self.hub.subscriptions())
        if self._was_connected or len(self.hub):
            self.lease_keeper.request_resync(ResyncCause.AMQP_RECONNECTED)
        self._was_connected = True

    # What the lease keeper calls

    async def refresh(self, client: Client, resync: bool) -> None:  # noqa: FBT001 - the shape of lease_keeper.Refresh
        """Write a session to the registry again. With `resync`, reread its logs too."""
        await self.sessions.refresh(client, resync=resync)

    # Ends

    async def wait_for_tasks(self, within_s: float) -> None:
        """Wait up to `within_s` for running tasks, then cancel the rest."""
        await self._tasks.wait_finished(within_s)

    async def leave_registry(self) -> None:
        """Flush the cursors, then remove everything of this process from the registry, the lease last."""
        try:
            await self.cursors.flush()
            await self.lease_keeper.close()  # no renewal comes after the lease is gone
            await self.registry.remove_own_incarnation()
        except Unavailable as error:
            _log.warning(
                "could not leave the registry: the operator will remove this gateway's entries",
                extra={"cause": str(error)},
            )

    # Tasks

    async def _authenticate_after_refresh(
        self, client: Client, request: Connect, handshake_token: str, unknown: KeyUnknown
    ) -> None:
        """Have the keys read once more, because they may be older than the token. Then decide about the client."""
        try:
            identity = await self._authenticator.identify_after_refresh(request, handshake_token, unknown)
        except Unavailable as error:
            # Not counted in `calls_failed`, which shows faults: any stranger can send a token that no key verifies.
            self.metrics.tokens_put_off += 1
            client.fail(close_codes.unavailable(error.retry_after_ms), str(error))
            return
        if not client.ended:
            client.authenticated(request, identity)

    async def _read_page(self, subscription: Subscription, asked: ReadPage) -> None:
        client = subscription.client
        page = await self._tasks.until_available(
            partial(self.registry.read_page, client.user, subscription.destination, asked),
            wanted=lambda: not subscription.ended,
        )
        if page is not None:
            self.metrics.pages_read += 1
        client.page_ended(subscription, asked, page)

    async def _reject(self, client: Client, rejected: Sequence[Rejected], receipt: str | None) -> None:
        for number, (subscription, message_ids) in enumerate(rejected, start=1):
            for message_id in message_ids:
                await self._refused.copy(client, subscription.destination, message_id)
            self.outcomes.settled(subscription, message_ids, MessageOutcome.REJECTED)
            client.settled(subscription, message_ids, receipt if number == len(rejected) else None)
