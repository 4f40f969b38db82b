"""Ingress queues that somebody deletes or takes while dispatchers are connected."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pika
import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.topology import Queue, ingress_queue
from pushcluster_dispatcher.ingress.refused_partitions import GRACE_S
from pushcluster_runtime.amqp import AmqpConnection
from tests.support.dispatchers import Logs, Producer, RunningDispatcher, all_acknowledged, count_left
from tests.support.planes import Plane
from tests.support.waiting import WITHIN_S, eventually

DELETED: Final = 3
USERS: Final = [f"user{n}" for n in range(64)]


@pytest.fixture
async def admin(plane: Plane) -> AsyncIterator[AmqpConnection]:
    """Somebody else at the broker."""
    amqp = await AmqpConnection.connect(plane.amqp_url, name="somebody")
    yield amqp
    await amqp.close()


async def delete(admin: AmqpConnection) -> None:
    channel = await admin.channel()
    await channel.delete_queue(ingress_queue(DELETED))
    await channel.close()


async def has_taken_the_name(admin: AmqpConnection) -> bool:
    """Delete the queue and declare another under its name; false when the dispatcher was quicker to declare it."""
    channel = await admin.channel()
    try:
        await channel.delete_queue(ingress_queue(DELETED))
        await channel.declare_queue(Queue(ingress_queue(DELETED), {"x-queue-type": "classic"}, exclusive=True))
    except Unavailable:
        return False
    return True


async def count_waiting(plane: Plane, number: int) -> int:
    def count() -> int:
        with pika.BlockingConnection(pika.URLParameters(plane.amqp_url)) as connection:
            return int(connection.channel().queue_declare(ingress_queue(number), passive=True).method.message_count)

    return await asyncio.to_thread(count)


async def test_a_deleted_ingress_queue_comes_back_and_takes_its_share_of_the_users(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs, admin: AmqpConnection
) -> None:
    await delete(admin)

    async def is_consumed_again() -> bool:
        assert await dispatcher.metric("partitions_consuming") == 16
        assert await dispatcher.metric("partition_resets_total") >= 1
        return await dispatcher.ready() == (True, "ready")

    await eventually(is_consumed_again)
    for user in USERS:
        producing.send(user, "x")
    await producing.confirmed()

    async def all_there() -> bool:
        assert [await logs.length(user) for user in USERS] == [1] * len(USERS)
        return True

    await eventually(all_there)
    await all_acknowledged(plane, dispatcher, len(USERS))
    for user in USERS:
        producing.send(user, "x")
    await producing.confirmed()
    assert await count_left(plane) == len(USERS)
    assert await count_waiting(plane, DELETED) > 0


async def test_a_dispatcher_that_may_not_consume_a_partition_says_so_until_it_may_and_goes_on_with_the_others(
    dispatcher: RunningDispatcher, admin: AmqpConnection
) -> None:
    """Somebody has taken the queue's name, so that declaring it again does not help."""
    await eventually(lambda: has_taken_the_name(admin))

    async def is_said() -> bool:
        ready, reason = await dispatcher.ready()
        assert ready, "all dispatchers are refused alike, and the API must not go with them"
        assert f"partition {DELETED} could not be consumed" in reason
        assert await dispatcher.metric("partitions_consuming") == 15
        return await dispatcher.metric("partitions_refused") == 1

    await eventually(is_said, within_s=GRACE_S + WITHIN_S)
    await delete(admin)

    async def is_mended() -> bool:
        assert await dispatcher.ready() == (True, "ready")
        assert await dispatcher.metric("partitions_refused") == 0
        return await dispatcher.metric("partitions_consuming") == 16

    await eventually(is_mended)
