"""Publishing into ingress on behalf of the HTTP API, over a connection of its own.

When the broker blocks publishers it stops reading their whole connection; the consumers must not share it.
"""

import asyncio
import logging
from typing import Final

from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.topology import PUSH_EXCHANGE, build_topology
from pushcluster_runtime.amqp import Amqp, AmqpChannel, Outcome
from pushcluster_runtime.backoff import Backoff

MAX_IN_FLIGHT: Final = 1_000
"""Publishes whose confirm has not come; one more is refused."""
CONFIRM_TIMEOUT_S: Final = 10.0

_log = logging.getLogger(__name__)


class IngressPublisher:
    """Keeps a channel in confirm mode."""

    def __init__(self, url: str, *, name: str, backoff: Backoff) -> None:
        self._url = url
        self._name = name
        self._backoff = backoff
        self._amqp: Amqp | None = None
        self._channel: AmqpChannel | None = None
        self.trouble = "the API is not connected to RabbitMQ yet"
        """Why nothing can be published now, in words; nothing while it can."""

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            try:
                await self._hold_connection()
            except Unavailable as error:
                self.trouble = str(error)
                _log.warning("the API cannot publish", extra={"reason": str(error)})
            await asyncio.sleep(self._backoff.next_delay_s())

    async def publish(self, user: str, body: bytes, properties: BasicProperties) -> None:
        """Publish, and return once a majority of the ingress queue has it on disk. Raises Unavailable.

        After a time-out or a lost connection the message may have been stored all the same.
        """
        channel = self._channel
        if self._amqp is None or channel is None:
            raise Unavailable("RabbitMQ cannot be reached")
        if self._amqp.blocked:
            raise Unavailable("RabbitMQ takes no messages now (memory or disk alarm)")
        if channel.in_flight >= MAX_IN_FLIGHT:
            raise Unavailable(f"{MAX_IN_FLIGHT} messages wait for RabbitMQ already")
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                outcome = await channel.publish(PUSH_EXCHANGE, user, body, properties, mandatory=False)
        except TimeoutError:
            raise Unavailable(f"RabbitMQ did not confirm within {CONFIRM_TIMEOUT_S:g} s") from None
        if outcome is not Outcome.CONFIRMED:
            raise Unavailable("the ingress queue is full")

    async def _hold_connection(self) -> None:
        amqp = await Amqp.connect(self._url, name=self._name)
        try:
            channel = await amqp.channel(confirm=True)
            # A message for an exchange that is not there would close the channel under all the others.
            await channel.declare(build_topology())
            self._amqp, self._channel = amqp, channel
            self.trouble = ""
            self._backoff.reset()
            raise Unavailable(f"RabbitMQ: {await asyncio.shield(channel.lost)}")
        finally:
            self._amqp = self._channel = None
            await amqp.close()
