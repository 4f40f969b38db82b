"""RabbitMQ, for one gateway: a connection that reconnects, the gateway's queue, and the queues of subscriptions.

The gateway publishes over a second connection. A broker that is short of memory stops reading from connections that
publish, and a SUBSCRIBE must not wait behind a NACK.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.headers import DESTINATION, REJECT_REASON, REJECT_USER
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_contract.routing import BROADCAST_EXCHANGE, DEFAULT_EXCHANGE, TOPIC_EXCHANGE
from pushcluster_contract.topology import (
    REFUSED_QUEUE,
    Binding,
    Topology,
    build_gateway_queue,
    build_publish_targets,
    build_refused_queue,
    build_subscription_queue,
)
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.metrics import Metrics
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, Delivery
from pushcluster_runtime.amqp.confirms import ConfirmOutcome
from pushcluster_runtime.amqp.outcome_publisher import OutcomePublisher
from pushcluster_runtime.amqp.publisher_connection import PublisherConnection
from pushcluster_runtime.backoff import Backoff

CHANNELS: Final = 32
"""A channel answers one declare at a time. This many channels declare two to three times as fast as one."""
UNIQUE_BYTES: Final = 12
"""Random bytes in the name of a subscription's queue."""
NACK_REASON: Final = "the client refused it (NACK)"
CONFIRM_TIMEOUT_S: Final = 10.0
PERSISTENT: Final = 2

# A gateway declares what it binds or publishes to, so that it may start before any dispatcher.
_BOUND: Final = Topology(tuple(x for x in build_publish_targets().exchanges if x.name == BROADCAST_EXCHANGE), (), ())
_PUBLISHED: Final = Topology((), (build_refused_queue(),), ())

_log = logging.getLogger(__name__)

OnMessage = Callable[[Delivery], None]


@dataclass(slots=True)
class _Connection:
    """One open connection and its channels."""

    amqp: AmqpConnection
    channels: list[AmqpChannel]
    queues: dict[str, AmqpChannel] = field(default_factory=dict)
    """The subscription queues of this connection, with their channels."""
    next_channel: int = 0

    def channel(self) -> AmqpChannel:
        self.next_channel = (self.next_channel + 1) % len(self.channels)
        return self.channels[self.next_channel]

    async def lost(self) -> str:
        """Return the reason once the connection or one of its channels is closed."""
        everything = [self.amqp.lost, *(channel.lost for channel in self.channels)]
        done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()


class BrokerLink:
    """Keeps a connection while `run` runs. All queues are exclusive, so they never outlive the connection."""

    def __init__(
        self,
        *,
        url: str,
        name: str,
        incarnation: Incarnation,
        on_message: OnMessage,
        on_connected: Callable[[], Awaitable[None]],
        environment: Environment,
        metrics: Metrics,
    ) -> None:
        """`on_message` gets the messages in the gateway's own queue. `on_connected` runs after every connect."""
        self._url = url
        self._name = name
        self._incarnation = incarnation
        self._on_message = on_message
        self._on_connected = on_connected
        self._entropy = environment.entropy
        self._clock = environment.clock
        self._lost_at = environment.clock()
        self._backoff = Backoff(environment.random)
        self._publisher = PublisherConnection(
            url, name=f"{name} outcomes", topology=_PUBLISHED, backoff=Backoff(environment.random)
        )
        self._metrics = metrics
        self._reports = OutcomePublisher(
            self._publisher, on_sent=self._on_report_sent, on_dropped=self._on_report_dropped
        )
        self._link: _Connection | None = None
        self.last_error = "not connected yet"
        """Why the connection was last lost, or could not be opened."""

    @property
    def connected(self) -> bool:
        """Whether the gateway consumes its own queue."""
        return self._link is not None

    @property
    def away_s(self) -> float:
        """For how long there has been no connection, in seconds. With one it is 0."""
        return 0.0 if self.connected else self._clock() - self._lost_at

    async def run(self) -> None:
        """Connect, and reconnect whenever the connection is lost, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publisher.run())
            await self._keep_connected()

    async def _keep_connected(self) -> None:
        while True:
            try:
                reason = await self._run_once()
            except Unavailable as error:
                reason = str(error)
            self.last_error = reason
            self._metrics.amqp_errors += 1
            delay_s = self._backoff.next_delay_s()
            _log.warning("no connection to RabbitMQ", extra={"cause": reason, "retry_s": round(delay_s, 2)})
            await asyncio.sleep(delay_s)

    async def open_queue(self, routing_key: str, on_message: OnMessage, on_cancel: Callable[[], None]) -> str:
        """Declare, bind and consume a subscription's queue. Return its name. Raise Unavailable."""
        link = self._current()
        channel = link.channel()
        queue = build_subscription_queue(self._entropy(UNIQUE_BYTES).hex())
        await channel.declare_queue(queue)
        await channel.bind(Binding(TOPIC_EXCHANGE, queue.name, routing_key))
        await channel.consume(queue.name, on_message, no_ack=True, on_cancel=on_cancel)
        link.queues[queue.name] = channel
        return queue.name

    async def close_queue(self, name: str) -> None:
        """Delete a queue of `open_queue`. A queue whose connection was lost is deleted already."""
        channel = self._link.queues.pop(name, None) if self._link is not None else None
        if channel is None:
            return
        try:
            await channel.delete_queue(name)
        except Unavailable:
            return

    async def put_refused(self, user: str, destination: Destination, entry: LogEntry) -> None:
        """Publish a refused message to `push.refused`. Raise Unavailable unless the broker confirms it."""
        properties = BasicProperties(
            content_type=entry.content_type or None,
            message_id=entry.producer_message_id or None,
            delivery_mode=PERSISTENT,
            headers={
                **entry.headers,
                DESTINATION: str(destination),
                REJECT_USER: user,
                REJECT_REASON: NACK_REASON,
            },
        )
        channel = self._publisher.channel
        if channel is None:
            raise Unavailable(self._publisher.trouble)
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                outcome = await channel.publish(DEFAULT_EXCHANGE, REFUSED_QUEUE, entry.body, properties, mandatory=True)
        except TimeoutError:
            raise Unavailable(f"RabbitMQ did not confirm within {CONFIRM_TIMEOUT_S:g} s") from None
        if outcome is not ConfirmOutcome.CONFIRMED:
            raise Unavailable(f"RabbitMQ did not accept a refused message: {outcome.name.lower()}")

    def send_outcome(self, address: ReplyAddress, report: OutcomeReport) -> None:
        """Send an outcome to a producer. Nothing waits for it."""
        self._reports.tell(address, report)

    def _on_report_sent(self) -> None:
        self._metrics.outcomes_sent += 1

    def _on_report_dropped(self) -> None:
        self._metrics.outcomes_dropped += 1

    def _current(self) -> _Connection:
        if self._link is None:
            raise Unavailable("RabbitMQ: not connected")
        return self._link

    async def _run_once(self) -> str:
        amqp = await AmqpConnection.connect(self._url, name=self._name)
        try:
            channels = list(await asyncio.gather(*(amqp.channel() for _ in range(CHANNELS))))
            link = _Connection(amqp, channels)
            await channels[0].declare(_BOUND)
            queue, binding = build_gateway_queue(self._incarnation)
            await channels[0].declare_queue(queue)
            await channels[0].bind(binding)
            await channels[0].consume(queue.name, self._on_message, no_ack=True)
            self._link = link
            _log.info("connected to RabbitMQ")
            lost = asyncio.ensure_future(link.lost())
            try:
                await self._on_connected()
                self._backoff.reset()
                return await lost
            finally:
                self._lost_at = self._clock()
                lost.cancel()
        finally:
            self._link = None
            await amqp.close()
