"""The data plane as `make run` starts it: a push to exactly one user, through every fault that the design names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import pytest_asyncio

from demo.publish import publish_amqp
from local_run.plane import LocalPlane
from tests.support.containers import kill_and_start, restart
from tests.support.cursors import wait_cursor
from tests.support.stomp_client import StompClient
from tests.support.traffic import traffic
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = {
    "apiVersion": "pushcluster.dev/v1alpha1",
    "kind": "PushCluster",
    "metadata": {"name": "demo", "namespace": "local"},
    "spec": {},
}
DESTINATION = "/queue/demo"
SUBSCRIPTION = f"/user{DESTINATION}"
BEFORE_THE_FAULT = 20
AFTER_THE_FAULT = 20

Fault = Callable[[LocalPlane], Awaitable[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local() -> AsyncIterator[LocalPlane]:
    """One plane for all tests here: each has its own users, and leaves every part running."""
    async with LocalPlane(BODY, with_page=False) as running:
        yield running


async def subscribed(
    local: LocalPlane, user: str, *, gateway: int = 0, last_message_id: str | None = None
) -> StompClient:
    client = await StompClient.connect(local.gateways[gateway].url, token=local.token(user))
    await client.subscribe(SUBSCRIPTION, id="0", last_message_id=last_message_id)
    return client


async def publish(local: LocalPlane, user: str, body: str) -> None:
    await asyncio.to_thread(publish_amqp, local.producer_url, user, DESTINATION, body)


async def publish_by_http(local: LocalPlane, user: str, body: str) -> int:
    url = f"{local.dispatchers[0].url}/v1/users/{user}/messages"
    authorization = {"Authorization": f"Bearer {local.cluster.api_key}"}
    async with (
        aiohttp.ClientSession(headers=authorization) as session,
        session.post(url, params={"destination": DESTINATION}, data=body.encode()) as answer,
    ):
        return answer.status


async def received(client: StompClient, count: int) -> dict[str, str]:
    """Return message-id → body of the next `count` different messages, in the order of their first arrival."""
    bodies: dict[str, str] = {}
    while len(bodies) < count:
        message = await client.next_message()
        bodies.setdefault(message["message-id"], message.text)
    return bodies


async def bodies(client: StompClient, count: int) -> list[str]:
    return list((await received(client, count)).values())


async def test_a_message_reaches_the_named_user_and_nobody_else(local: LocalPlane) -> None:
    alice = await subscribed(local, "alice-1", gateway=0)
    bob = await subscribed(local, "bob-1", gateway=1)
    assert alice.gateway != bob.gateway

    await publish(local, "alice-1", "by AMQP")
    assert await publish_by_http(local, "alice-1", "by HTTP") == 202
    assert await publish_by_http(local, "bob-1", "for bob") == 202

    assert sorted(await bodies(alice, 2)) == ["by AMQP", "by HTTP"]
    assert await bodies(bob, 1) == ["for bob"]
    await alice.disconnect()
    await bob.disconnect()


async def test_what_an_offline_user_was_sent_comes_in_order_and_once(local: LocalPlane) -> None:
    for n in range(5):
        await publish(local, "carol", f"message {n}")
    carol = await subscribed(local, "carol")
    got = await received(carol, 5)
    assert list(got.values()) == [f"message {n}" for n in range(5)]
    await carol.disconnect()
    # Another gateway knows from Redis alone what she has got.
    cluster = local.amqp_url.rpartition("/")[2]  # the vhost has its name
    await wait_cursor(local.redis_url, cluster, "carol", list(got)[-1])

    carol = await subscribed(local, "carol", gateway=1)
    await publish(local, "carol", "new")
    assert await bodies(carol, 1) == ["new"]
    await carol.disconnect()


async def test_after_kill_9_of_her_gateway_a_user_resumes_on_another_where_she_stopped(local: LocalPlane) -> None:
    alice = await subscribed(local, "alice-2", gateway=0)
    await publish(local, "alice-2", "before")
    (last_message_id,) = await received(alice, 1)
    await local.gateways[0].kill()
    try:
        await publish(local, "alice-2", "while away 1")
        await publish(local, "alice-2", "while away 2")
        again = await subscribed(local, "alice-2", gateway=1, last_message_id=last_message_id)
        await publish(local, "alice-2", "after")
        missed: list[str] = []
        while len(missed) < 3:
            message = await again.next_message()
            if message["message-id"] == last_message_id:
                assert message["redelivered"] == "true", "the killed gateway may not have told that she got it"
            else:
                missed.append(message.text)
        assert missed == ["while away 1", "while away 2", "after"]
        await again.disconnect()
    finally:
        await local.gateways[0].start()


async def kill_dispatcher(local: LocalPlane) -> None:
    await local.dispatchers[0].kill()
    await local.dispatchers[0].start()


async def kill_redis(local: LocalPlane) -> None:
    await kill_and_start(local.redis)


async def restart_redis(local: LocalPlane) -> None:
    await restart(local.redis)


async def kill_rabbitmq(local: LocalPlane) -> None:
    await kill_and_start(local.rabbitmq)


async def restart_rabbitmq(local: LocalPlane) -> None:
    await restart(local.rabbitmq)


@pytest.mark.parametrize("fault", [kill_dispatcher, kill_redis, restart_redis, kill_rabbitmq, restart_rabbitmq])
async def test_nothing_confirmed_is_lost_or_out_of_order(local: LocalPlane, fault: Fault) -> None:
    user = fault.__name__.replace("_", "-")
    client = await subscribed(local, user)
    with traffic(local.producer_url, user, DESTINATION) as publisher:
        await eventually(lambda: len(publisher.confirmed) >= BEFORE_THE_FAULT)
        await fault(local)
        target = len(publisher.confirmed) + AFTER_THE_FAULT
        await eventually(lambda: len(publisher.confirmed) >= target)
        confirmed = await asyncio.to_thread(publisher.stop)
    assert await bodies(client, len(confirmed)) == confirmed
    await client.disconnect()
