"""From `kubectl apply` to a push to exactly one user."""

import asyncio
import json
import shlex

import pika
import pytest
import redis.asyncio
from pika.exceptions import ChannelClosedByBroker

from demo.publish import publish_amqp, publish_http
from demo.story import connect, connect_apart
from pushcluster_contract.keys import Keys
from pushcluster_contract.routing import session_key
from pushcluster_contract.topology import PUSH_EXCHANGE, REJECTED_QUEUE
from tests.e2e.push_cluster import NAME, PushCluster, eventually
from tests.support.cursors import wait_cursor

USER_QUEUE = "/user/queue/demo"


async def test_a_message_reaches_the_named_user_and_nobody_else(shared: PushCluster) -> None:
    alice, bob = await connect_apart(shared.access, "alice-1", "bob-1")
    await alice.subscribe(USER_QUEUE, id="0")
    await bob.subscribe(USER_QUEUE, id="0")

    await asyncio.to_thread(publish_amqp, shared.access.producer_amqp_url, "alice-1", "/queue/demo", "for alice")
    await publish_http(shared.access, "bob-1", "/queue/demo", "for bob")

    assert (await alice.next_message()).body == b"for alice"
    assert (await bob.next_message()).body == b"for bob"
    await alice.disconnect()
    await bob.disconnect()


async def test_the_message_travels_through_the_sessions_own_queue(shared: PushCluster) -> None:
    alice = await connect(shared.access, "alice-2")
    await alice.subscribe(USER_QUEUE, id="0")
    vhost = shared.access.cluster
    line = f"rabbitmqctl -q -p {vhost} list_bindings source_name routing_key destination_name"

    def bound() -> list[list[str]]:
        table = shared.kubectl("exec", f"{NAME}-rabbitmq-0", "--container", "rabbitmq", "--", *shlex.split(line))
        return [row.split("\t") for row in table.splitlines() if session_key("demo", alice.session) in row]

    rows = await asyncio.to_thread(eventually, bound, within_s=30, what="the binding of alice's own queue")
    assert [row[0] for row in rows] == ["amq.topic"]
    assert rows[0][2].startswith("stomp-subscription-")
    await alice.disconnect()


async def test_messages_for_an_offline_user_wait_and_come_in_order_once(shared: PushCluster) -> None:
    for n in range(5):
        await publish_http(shared.access, "carol", "/queue/demo", f"message {n}")

    carol = await connect(shared.access, "carol")
    await carol.subscribe(USER_QUEUE, id="0")
    messages = await carol.next_messages(5)
    assert [message.text for message in messages] == [f"message {n}" for n in range(5)]
    await carol.disconnect()
    # The Service may lead her to another gateway now, which knows from Redis alone what she has got.
    await wait_cursor(shared.access.redis_url, shared.access.cluster, "carol", messages[-1]["message-id"])

    carol = await connect(shared.access, "carol")
    await carol.subscribe(USER_QUEUE, id="0")
    await publish_http(shared.access, "carol", "/queue/demo", "new")
    assert (await carol.next_message()).body == b"new"
    await carol.disconnect()


async def test_a_malformed_message_is_kept_with_the_reason(shared: PushCluster) -> None:
    await asyncio.to_thread(publish_amqp, shared.access.producer_amqp_url, "alice", "/queue/no.dots", "malformed")

    def take() -> tuple[bytes, dict[str, object]] | None:
        connection = pika.BlockingConnection(pika.URLParameters(shared.access.amqp_url))
        try:
            channel = connection.channel()
            method, properties, body = channel.basic_get(REJECTED_QUEUE, auto_ack=True)
            return (body or b"", dict(properties.headers or {})) if method and properties else None
        finally:
            connection.close()

    taken = await asyncio.to_thread(eventually, take, within_s=60, what="the message is in push.rejected")
    assert taken is not None
    body, headers = taken
    assert body == b"malformed"
    assert "no.dots" in json.dumps(headers)


async def test_the_producers_credentials_may_publish_and_nothing_else(shared: PushCluster) -> None:
    def forbidden() -> None:
        connection = pika.BlockingConnection(pika.URLParameters(shared.access.producer_amqp_url))
        try:
            channel = connection.channel()
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                channel.basic_get(REJECTED_QUEUE)
            channel = connection.channel()
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                channel.exchange_delete(PUSH_EXCHANGE)
        finally:
            connection.close()

    await asyncio.to_thread(forbidden)


async def test_the_status_counts_the_sessions_that_are_online(shared: PushCluster) -> None:
    clients = [await connect(shared.access, f"counted-{n}") for n in range(3)]
    store: redis.asyncio.Redis = redis.asyncio.from_url(shared.access.redis_url)
    assert await store.hlen(Keys(shared.access.cluster).sessions("counted-0")) == 1
    await store.aclose()

    def all_are_counted() -> bool:
        return int(shared.kubectl.get("pcl", NAME)["status"]["sessions"]["online"]) >= len(clients)

    await asyncio.to_thread(eventually, all_are_counted, within_s=90, what="the status counts the sessions")
    for client in clients:
        await client.disconnect()
