"""Every queue of a real RabbitMQ holds what its limit says and not one message more."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest
from pika.spec import BasicProperties

from pushcluster_contract import limits
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.topology import (
    REJECTED_QUEUE,
    Queue,
    build_gateway_queue,
    build_refused_queue,
    build_reply_queue,
    build_subscription_queue,
    build_topology,
    ingress_queue,
)
from pushcluster_runtime.amqp import (
    AmqpChannel,
    AmqpConnection,
    ConfirmOutcome,
    Delivery,
)
from tests.support.planes import Plane
from tests.support.waiting import eventually

MESSAGE_BYTES: Final = 65_536
QUORUM_SCALE: Final = 64
"""By so much the quorum queues are smaller here than in a cluster, in bytes: 256 MiB would take minutes."""


def _of_topology(name: str) -> Queue:
    (queue,) = [queue for queue in build_topology().queues if queue.name == name]
    return queue


IN_MESSAGES: Final[list[tuple[Queue, int]]] = [
    (build_subscription_queue("x"), limits.SUBSCRIPTION_QUEUE_MAX_MESSAGES),
    (build_reply_queue("x"), limits.REPLY_QUEUE_MAX_MESSAGES),
    (build_gateway_queue(Incarnation("pod", "0" * 16))[0], limits.GATEWAY_QUEUE_MAX_MESSAGES),
    (_of_topology(REJECTED_QUEUE), limits.REJECTED_QUEUE_MAX_MESSAGES),
    (build_refused_queue(), limits.REFUSED_QUEUE_MAX_MESSAGES),
]
IN_BYTES: Final[list[tuple[Queue, int]]] = [
    (build_subscription_queue("x"), limits.SUBSCRIPTION_QUEUE_MAX_BYTES),
    (build_reply_queue("x"), limits.REPLY_QUEUE_MAX_BYTES),
    (build_gateway_queue(Incarnation("pod", "0" * 16))[0], limits.GATEWAY_QUEUE_MAX_BYTES),
]


def name_of(value: object) -> str:
    return value.name if isinstance(value, Queue) else str(value)


@pytest.fixture
async def channel(plane: Plane) -> AsyncIterator[AmqpChannel]:
    connection = await AmqpConnection.connect(plane.amqp_url, name="test")
    yield await connection.channel(confirm=True)
    await connection.close()


async def fill(channel: AmqpChannel, queue: Queue, count: int, size: int) -> None:
    """Publish numbered messages of one size, and wait for all confirms."""
    await channel.declare_queue(queue)
    properties = BasicProperties(delivery_mode=2)
    published = [
        channel.publish("", queue.name, str(n).encode().ljust(size), properties, mandatory=False) for n in range(count)
    ]
    for each in published:
        assert await each is ConfirmOutcome.CONFIRMED


async def oldest_and_count(channel: AmqpChannel, queue: Queue, newest: int) -> tuple[int, int]:
    """Return the number of the oldest message that is there, and how many there are, up to the newest."""
    numbers: list[int] = []

    def take(delivery: Delivery) -> None:
        numbers.append(int(delivery.body))

    await channel.consume(queue.name, take, no_ack=True)
    await eventually(lambda: numbers[-1:] == [newest], within_s=240)  # there are up to 100,000
    return numbers[0], len(numbers)


@pytest.mark.parametrize(("queue", "most"), IN_MESSAGES, ids=name_of)
async def test_one_message_more_drops_the_oldest(channel: AmqpChannel, queue: Queue, most: int) -> None:
    await fill(channel, queue, most + 1, size=0)
    assert await oldest_and_count(channel, queue, most) == (1, most)


@pytest.mark.parametrize(("queue", "most"), IN_BYTES, ids=name_of)
async def test_one_body_more_drops_the_oldest(channel: AmqpChannel, queue: Queue, most: int) -> None:
    count = most // MESSAGE_BYTES
    await fill(channel, queue, count + 1, MESSAGE_BYTES)
    assert await oldest_and_count(channel, queue, count) == (1, count)


@pytest.mark.parametrize(
    ("kept", "limit"),
    [
        (_of_topology(REJECTED_QUEUE), limits.REJECTED_QUEUE_MAX_BYTES),
        (build_refused_queue(), limits.REFUSED_QUEUE_MAX_BYTES),
    ],
    ids=name_of,
)
async def test_one_kept_body_more_drops_the_oldest(channel: AmqpChannel, kept: Queue, limit: int) -> None:
    queue, most = smaller(kept, limit)
    count = most // MESSAGE_BYTES
    await fill(channel, queue, count + 1, MESSAGE_BYTES)
    oldest, held = await oldest_and_count(channel, queue, count)
    # A quorum queue counts a few bytes more than a body's.
    assert (oldest, held) in {(1, count), (2, count - 1)}


async def test_one_body_more_than_ingress_holds_is_refused_to_its_publisher(channel: AmqpChannel) -> None:
    queue, most = smaller(_of_topology(ingress_queue(0)), limits.INGRESS_QUEUE_MAX_BYTES)
    await channel.declare_queue(queue)
    body, properties = bytes(MESSAGE_BYTES), BasicProperties(delivery_mode=2)
    outcomes: list[ConfirmOutcome] = []
    # A quorum queue begins to refuse a little after it has become full (RabbitMQ, Queue Length Limit).
    while ConfirmOutcome.NACKED not in outcomes and len(outcomes) * MESSAGE_BYTES < 2 * most:
        outcomes.append(await channel.publish("", queue.name, body, properties, mandatory=False))
    taken = outcomes.count(ConfirmOutcome.CONFIRMED) * MESSAGE_BYTES
    assert outcomes[-1] is ConfirmOutcome.NACKED
    assert most <= taken <= most + 8 * MESSAGE_BYTES


def smaller(queue: Queue, most: int) -> tuple[Queue, int]:
    """Return the same queue under another name with a smaller bound in bytes, and that bound."""
    assert queue.arguments["x-max-length-bytes"] == most
    bound = most // QUORUM_SCALE
    return replace(queue, name=f"small.{queue.name}", arguments={**queue.arguments, "x-max-length-bytes": bound}), bound
