"""The broker has room for so many queues of subscriptions: who finds none gets everything all the same."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.routing import SUBSCRIPTION_QUEUE_PREFIX
from pushcluster_gateway.limits import Limits
from tests.support.amqp_admin import AmqpAdmin
from tests.support.dispatchers import Producer, RunningDispatcher
from tests.support.gateways import Backend, RunningGateway, running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

COUNT: Final = 40
AT_ONCE: Final = Limits(own_queue_after_s=0.0)
"""Who waits for a queue of its own waits for the quota alone."""
QUEUE, TOPIC = Destination("queue", "demo"), Destination("topic", "demo")
USERS: Final = ("alice", "bob", "carol")


@asynccontextmanager
async def ready_gateway(
    plane: Plane, *, queues: int = 1_000, limits: Limits = AT_ONCE
) -> AsyncIterator[RunningGateway]:
    """A gateway in mode Session, of a cluster with room for so many queues."""
    async with running_gateway(plane, limits=limits, SUBSCRIPTION_QUEUES=str(queues)) as gateway:
        await eventually(gateway.is_ready)
        yield gateway


@asynccontextmanager
async def subscribed(url: str, users: Iterable[str]) -> AsyncIterator[dict[str, StompClient]]:
    """Users who come one after the other, with a subscription each."""
    async with AsyncExitStack() as stack:
        clients = {}
        for user in users:
            clients[user] = await stack.enter_async_context(connected(url, token=token(user)))
            await clients[user].subscribe("/user/queue/demo")
        yield clients


async def count_queues(admin: AmqpAdmin, plane: Plane) -> int:
    """Return how many queues of subscriptions the broker has."""
    return sum(name.startswith(SUBSCRIPTION_QUEUE_PREFIX) for name in await admin.queues(plane.vhost))


async def has_queues(admin: AmqpAdmin, plane: Plane, count: int) -> None:
    async def has() -> bool:
        assert await count_queues(admin, plane) == count
        return True

    await eventually(has)


async def lacks_queues(gateway: RunningGateway, count: int) -> None:
    async def lacks() -> bool:
        assert await gateway.metric("subscriptions_without_queue") == count
        return True

    await eventually(lacks)


async def push_to_all(producing: Producer, users: Iterable[str], name: str) -> list[str]:
    """Publish numbered messages to each user in turns; return what each is to get."""
    bodies = [f"{name}{n}" for n in range(COUNT)]
    for body in bodies:
        for user in users:
            producing.send(user, body)
    await producing.confirmed()
    return bodies


async def got(client: StompClient, count: int) -> list[str]:
    return [message.text for message in await client.next_messages(count)]


async def test_one_subscription_more_than_the_broker_has_room_for_gets_everything_in_order(
    plane: Plane, amqp_admin: AmqpAdmin, dispatcher: RunningDispatcher, producing: Producer
) -> None:
    async with ready_gateway(plane, queues=2) as gateway, subscribed(gateway.url, USERS) as clients:
        await has_queues(amqp_admin, plane, 2)
        await lacks_queues(gateway, 1)
        bodies = await push_to_all(producing, USERS, "m")
        assert {user: await got(client, COUNT) for user, client in clients.items()} == dict.fromkeys(USERS, bodies)
        # A place that becomes free is for the next one.
        await clients["alice"].disconnect()
        await has_queues(amqp_admin, plane, 1)
        async with subscribed(gateway.url, ["dave"]):
            await has_queues(amqp_admin, plane, 2)
            await lacks_queues(gateway, 1)


async def test_who_has_no_queue_gets_everything_by_the_gateways_without_a_detour(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer
) -> None:
    async with (
        ready_gateway(plane, queues=0) as gateway,
        subscribed(gateway.url, ["alice"]) as clients,
    ):
        bodies = await push_to_all(producing, ["alice"], "m")
        assert await got(clients["alice"], COUNT) == bodies
        assert await dispatcher.metric("copies_returned_total") == 0
        assert await gateway.metric("holes_total") == 0


async def test_one_session_has_a_bounded_number_of_queues(plane: Plane, amqp_admin: AmqpAdmin, back: Backend) -> None:
    limits = replace(AT_ONCE, max_queues=3)
    async with ready_gateway(plane, limits=limits) as gateway, connected(gateway.url, token=token("alice")) as alice:
        for n in range(limits.max_queues + 1):
            await alice.subscribe(f"/user/queue/d{n}", id=str(n))
        await has_queues(amqp_admin, plane, limits.max_queues)
        await lacks_queues(gateway, 1)
        for n in range(limits.max_queues + 1):
            await back.push("alice", f"for {n}", destination=Destination("queue", f"d{n}"))
            assert await got(alice, 1) == [f"for {n}"]


@pytest.mark.parametrize(("first", "second"), [(QUEUE, TOPIC), (TOPIC, QUEUE)], ids=str)
async def test_a_subscription_without_a_queue_gets_its_copies_by_its_sessions_queue_of_the_same_name(
    plane: Plane, amqp_admin: AmqpAdmin, back: Backend, first: Destination, second: Destination
) -> None:
    """Both have one routing key: what the queue of one takes is not returned for the other."""
    async with (
        ready_gateway(plane, queues=1) as gateway,
        connected(gateway.url, token=token("alice")) as alice,
    ):
        await alice.subscribe(first.as_subscribed(), id="with")
        await has_queues(amqp_admin, plane, 1)
        await alice.subscribe(second.as_subscribed(), id="without")
        await back.push("alice", "by the other's queue", destination=second)
        assert await got(alice, 1) == ["by the other's queue"]
        await alice.unsubscribe("with")
        await back.push("alice", "by the gateway's", destination=second)
        assert await got(alice, 1) == ["by the gateway's"]
        assert await gateway.metric("holes_total") == 0


async def test_gateways_that_come_get_their_share_of_the_room(
    plane: Plane, amqp_admin: AmqpAdmin, dispatcher: RunningDispatcher, producing: Producer
) -> None:
    """Which restarts nobody: the gateway that was alone gives queues up, and its subscriptions go on."""
    limits = replace(AT_ONCE, walk_round_s=1.0)

    async with (
        ready_gateway(plane, limits=limits, queues=2) as gateway,
        subscribed(gateway.url, ("alice", "bob")) as clients,
    ):
        await has_queues(amqp_admin, plane, 2)
        async with ready_gateway(plane, queues=2) as other:
            bodies = await push_to_all(producing, clients, "m")
            await lacks_queues(gateway, 1)
            bodies += await push_to_all(producing, clients, "n")
            async with subscribed(other.url, ("carol", "dave")):
                await has_queues(amqp_admin, plane, 2)
                await lacks_queues(other, 1)
            assert [await got(client, 2 * COUNT) for client in clients.values()] == [bodies, bodies]
