"""The HTTP API's own connection to RabbitMQ. It publishes to ingress and to gateways' queues, and consumes replies.

When the broker blocks publishers, it stops reading from their whole connection. So the consumers of ingress do not
share it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from pika.spec import BasicProperties

from pushcluster_contract.control import CONTROL_TYPE, Disconnect
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.limits import INGRESS_PARTITIONS
from pushcluster_contract.routing import DEFAULT_EXCHANGE, gateway_queue
from pushcluster_contract.topology import PUSH_EXCHANGE, build_partition, build_publish_targets, build_reply_queue
from pushcluster_dispatcher.api.replies import Replies
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, ConfirmOutcome
from pushcluster_runtime.backoff import Backoff

MAX_IN_FLIGHT: Final = 1_000
"""How many publishes may wait for their confirm. One more is refused."""
CONFIRM_TIMEOUT_S: Final = 10.0

_log = logging.getLogger(__name__)


class IngressPublisher:
    """Keeps a channel in confirm mode, and a consumer of replies."""

    def __init__(
        self, url: str, *, name: str, new_unique: Callable[[], str], replies: Replies, backoff: Backoff
    ) -> None:
        """The broker's tools show `name`. Each connection's reply queue gets a new name from `new_unique`."""
        self._url = url
        self._name = name
        self._new_unique = new_unique
        self._replies = replies
        self._backoff = backoff
        self._amqp: AmqpConnection | None = None
        self._channel: AmqpChannel | None = None
        self.trouble = "the API is not connected to RabbitMQ yet"
        """Why nothing can be published now, in words. Empty while it can."""

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            try:
                await self._hold_connection()
            except Unavailable as error:
                self.trouble = str(error)
                _log.warning("the API cannot publish; its connection is tried again", extra={"reason": str(error)})
            await asyncio.sleep(self._backoff.next_delay_s())

    async def publish(self, user: str, body: bytes, properties: BasicProperties) -> None:
        """Publish, and return once a majority of the ingress queue has the message on disk. Raise Unavailable.

        After a time-out or a lost connection, the message may have been stored nevertheless.
        """
        outcome = await self._send(PUSH_EXCHANGE, user, body, properties, mandatory=False)
        if outcome is not ConfirmOutcome.CONFIRMED:
            raise Unavailable("the ingress queue is full")

    async def disconnect(self, user: str, sid: str, incarnation: Incarnation) -> bool:
        """Tell a gateway to end a session. Return False if the gateway has no queue now. Raise Unavailable."""
        properties = BasicProperties(type=CONTROL_TYPE, headers=dict(Disconnect(user, sid).headers()))
        queue = gateway_queue(incarnation)
        return await self._send(DEFAULT_EXCHANGE, queue, b"", properties, mandatory=True) is ConfirmOutcome.CONFIRMED

    async def _send(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> ConfirmOutcome:
        channel = self._channel
        if self._amqp is None or channel is None:
            raise Unavailable("RabbitMQ cannot be reached")
        if self._amqp.blocked:
            raise Unavailable("RabbitMQ accepts no messages now (memory or disk alarm)")
        if channel.in_flight >= MAX_IN_FLIGHT:
            raise Unavailable(f"{MAX_IN_FLIGHT} messages already wait for RabbitMQ's confirm")
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                return await channel.publish(exchange, routing_key, body, properties, mandatory=mandatory)
        except TimeoutError:
            raise Unavailable(f"RabbitMQ did not confirm within {CONFIRM_TIMEOUT_S:g} s") from None

    async def _hold_connection(self) -> None:
        amqp = await AmqpConnection.connect(self._url, name=self._name)
        try:
            channel = await amqp.channel(confirm=True)
            # A publish to a missing exchange would close the channel for all other publishes.
            await channel.declare(build_publish_targets())
            for reason in await amqp.declare(build_partition(n) for n in range(INGRESS_PARTITIONS)):
                _log.warning(
                    "RabbitMQ refuses to declare a partition; the API uses the others", extra={"reason": reason}
                )
            queue = build_reply_queue(self._new_unique())
            await channel.declare_queue(queue)
            await channel.consume(queue.name, self._replies.receive, no_ack=True)
            self._amqp, self._channel = amqp, channel
            self._replies.opened(queue.name)
            self.trouble = ""
            self._backoff.reset()
            raise Unavailable(f"RabbitMQ: {await asyncio.shield(channel.lost)}")
        finally:
            self._amqp = self._channel = None
            self._replies.lost()
            await amqp.close()
