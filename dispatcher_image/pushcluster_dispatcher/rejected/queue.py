"""A queue of rejected messages in RabbitMQ.

Messages that are only read are given back explicitly. They go to the end of the queue, in order. A quorum queue counts
how often a message comes back with a connection that ends, and drops it after 20 times. What is given back explicitly
does not count (both seen on RabbitMQ 4.3.6).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.topology import PUSH_EXCHANGE, build_publish_targets, build_refused_queue
from pushcluster_dispatcher.rejected.messages import RejectedMessage, Replay
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, ConfirmOutcome

CONNECTION_NAME: Final = "rejected messages"


class RejectedQueue:
    """One queue, over one channel. `opened` makes it."""

    def __init__(self, channel: AmqpChannel, queue: str) -> None:
        self._channel = channel
        self._queue = queue

    async def read(self, limit: int) -> AsyncIterator[tuple[RejectedMessage, int]]:
        """Yield at most `limit` messages from the oldest on, each with its delivery tag. Raise Unavailable.

        One message at a time is held here, and each is unacknowledged at the broker.
        """
        for _ in range(limit):
            delivery = await self._channel.get(self._queue)
            if delivery is None:
                return
            yield RejectedMessage.of(delivery), delivery.tag

    async def replay(self, tag: int, replay: Replay) -> None:
        """Publish a message again, and remove it from the queue. Raise Unavailable if RabbitMQ does not confirm it."""
        published = self._channel.publish(PUSH_EXCHANGE, replay.user, replay.body, replay.properties, mandatory=True)
        outcome = await published
        if outcome is not ConfirmOutcome.CONFIRMED:
            raise Unavailable("RabbitMQ does not take the message; its ingress queue may be full")
        # After the confirm: a crash here leaves the message in both queues, and its message id tells.
        self._channel.ack(tag)


@asynccontextmanager
async def opened(url: str, queue: str) -> AsyncIterator[RejectedQueue]:
    """Connect, until the end of the block. Raise Unavailable."""
    amqp = await AmqpConnection.connect(url, name=CONNECTION_NAME)
    try:
        channel = await amqp.channel(confirm=True)
        await channel.declare(build_publish_targets())
        await channel.declare_queue(build_refused_queue())
        try:
            yield RejectedQueue(channel, queue)
        finally:
            channel.give_back()
    finally:
        await amqp.close()
