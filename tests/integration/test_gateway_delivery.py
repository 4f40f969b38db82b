"""A gateway against real Redis and RabbitMQ: what a user's clients get, and when."""

from typing import Any

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_contract.topology import REJECTED_QUEUE
from pushcluster_gateway.limits import Limits
from tests.support.amqp_admin import AmqpAdmin
from tests.support.gateways import Backend, RunningGateway, running_gateway, token
from tests.support.stomp_client import ServerFrame, StompClient, connected
from tests.support.waiting import eventually


def bodies(messages: list[ServerFrame]) -> list[str]:
    return [message.text for message in messages]


async def cursor_is(back: Backend, user: str, message_id: str) -> None:
    async def reached() -> bool:
        return await back.cursor(user) == StreamId.parse(message_id)

    await eventually(reached, within_s=5)


async def is_gone(back: Backend, user: str) -> bool:
    return not await back.sessions(user)


async def test_connected_names_session_user_and_gateway(gateway: RunningGateway) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        assert alice.user_name == "alice"
        assert alice.gateway == gateway.pod_name
        assert len(alice.session) == 26
        assert alice.connected["server"].startswith("PushCluster/")
        assert alice.connected["version"] == "1.2"


async def test_a_message_after_the_subscribe_is_delivered_by_its_copy(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", id="s1")
        message_id = await back.push(
            "alice", "hello", message_id="m-1", content_type="text/plain", headers={"x-kind": "a:b\nc"}
        )
        message = await alice.next_message()
        assert message.body == b"hello"
        assert message.headers == {
            "destination": "/user/queue/demo",
            "subscription": "s1",
            "message-id": message_id,
            "producer-message-id": "m-1",
            "content-type": "text/plain",
            "content-length": "5",
            "x-kind": "a:b\nc",
        }
        assert back.outcomes[-1].name == "CONFIRMED"
        assert await gateway.metric("catchup_pages_total") == 1, "one at the SUBSCRIBE, none for the message"


async def test_only_the_named_user_gets_it(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice, connected(gateway.url, token=token("bob")) as bob:
        await alice.subscribe("/user/queue/demo")
        await bob.subscribe("/user/queue/demo")
        await back.push("alice", "for alice")
        await back.push("bob", "for bob")
        assert (await bob.next_message()).text == "for bob"
        assert (await alice.next_message()).text == "for alice"
        await bob.no_message()


async def test_all_sessions_of_a_user_get_it(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as one, connected(gateway.url, token=token("alice")) as two:
        await one.subscribe("/user/queue/demo")
        await two.subscribe("/user/queue/demo")
        await back.push("alice", "both")
        assert (await one.next_message()).text == (await two.next_message()).text == "both"


async def test_what_was_sent_while_offline_comes_in_order_and_only_once(gateway: RunningGateway, back: Backend) -> None:
    pushed = [await back.push("alice", f"m{n}") for n in range(250)]
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        messages = await alice.next_messages(250)
        assert [message["message-id"] for message in messages] == pushed
        assert bodies(messages) == [f"m{n}" for n in range(250)]
        assert all("recovered" not in message.headers for message in messages)
        await cursor_is(back, "alice", pushed[-1])
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await back.push("alice", "new")
        assert (await alice.next_message()).text == "new"


async def test_a_client_that_leaves_at_once_does_not_get_the_same_again(gateway: RunningGateway, back: Backend) -> None:
    await back.push("alice", "one")
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await alice.next_message()
        await alice.disconnect()
    await eventually(lambda: is_gone(back, "alice"), within_s=5)
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await alice.no_message()


async def test_resume_replays_exactly_what_was_missed(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        ids = [await back.push("alice", f"m{n}") for n in range(5)]
        await alice.next_messages(5)
    await back.push("alice", "m5")
    async with connected(gateway.url, token=token("alice")) as alice:
        receipt = await alice.subscribe("/user/queue/demo", last_message_id=ids[2])
        assert receipt is not None
        assert receipt["recovered"] == "true"
        messages = await alice.next_messages(3)
        assert bodies(messages) == ["m3", "m4", "m5"]
        assert [message.headers.get("recovered") for message in messages] == ["true", None, None]
        assert [message.headers.get("redelivered") for message in messages] == ["true", "true", None]


async def test_a_resume_past_the_window_is_told(gateway: RunningGateway, back: Backend) -> None:
    back.max_entries = 3
    ids = [await back.push("alice", f"m{n}") for n in range(6)]
    async with connected(gateway.url, token=token("alice")) as alice:
        receipt = await alice.subscribe("/user/queue/demo", last_message_id=ids[0])
        assert receipt is not None
        assert receipt["recovered"] == "false"
        messages = await alice.next_messages(3)
        assert bodies(messages) == ["m3", "m4", "m5"]
        assert messages[0]["recovered"] == "false"


async def test_a_resume_of_a_lost_log_is_told(gateway: RunningGateway, back: Backend) -> None:
    last = await back.push("alice", "old")
    await back.redis.delete(back.keys.log("alice", Destination("queue", "demo")))
    await back.redis.delete(back.keys.meta("alice", Destination("queue", "demo")))
    await back.push("alice", "new")
    async with connected(gateway.url, token=token("alice")) as alice:
        receipt = await alice.subscribe("/user/queue/demo", last_message_id=last)
        assert receipt is not None
        assert receipt["recovered"] == "false"
        message = await alice.next_message()
        assert (message.text, message["recovered"]) == ("new", "false")


async def test_dropped_offline_messages_are_told(gateway: RunningGateway, back: Backend) -> None:
    back.max_entries = 2
    for n in range(4):
        await back.push("alice", f"m{n}")
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        messages = await alice.next_messages(2)
        assert [(message.text, message.headers.get("recovered")) for message in messages] == [
            ("m2", "false"),
            ("m3", None),
        ]


async def test_a_lost_copy_is_found_by_the_next_one(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await back.push("alice", "m0")
        await alice.next_message()
        back.send_copies = False
        await back.push("alice", "m1")
        await back.push("alice", "m2")
        back.send_copies = True
        await alice.no_message()
        await back.push("alice", "m3")
        assert bodies(await alice.next_messages(3)) == ["m1", "m2", "m3"]
        assert await gateway.metric("holes_total") == 1
        assert await gateway.metric("gaps_total") == 0


async def test_an_expired_message_is_passed_over(gateway: RunningGateway, back: Backend) -> None:
    await back.push("alice", "late", expires_in_ms=1)
    await back.push("alice", "lasting", expires_in_ms=60_000)
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        assert (await alice.next_message()).text == "lasting"
        await alice.no_message()


async def test_queue_and_topic_of_one_name_are_told_apart(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", id="q")
        await alice.subscribe("/user/topic/demo", id="t")
        await back.push("alice", "to the topic", destination=Destination("topic", "demo"))
        await back.push("alice", "to the queue", destination=Destination("queue", "demo"))
        got = {message["subscription"]: message.text for message in await alice.next_messages(2)}
        assert got == {"q": "to the queue", "t": "to the topic"}
        await alice.no_message()


async def test_bodies_are_opaque_bytes(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        for body in (bytes(range(256)), b"", "é\0ü".encode()):
            await back.push("alice", body)
            assert (await alice.next_message()).body == body


async def test_client_acks_move_the_cursor_and_what_is_unacknowledged_comes_again(
    gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", ack="client-individual")
        ids = [await back.push("alice", f"m{n}") for n in range(4)]
        messages = await alice.next_messages(4)
        await alice.ack(messages[0], receipt=True)
        await alice.ack(messages[2], receipt=True)
        await cursor_is(back, "alice", ids[0])
        await alice.disconnect()
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", ack="client")
        again = await alice.next_messages(3)
        assert bodies(again) == ["m1", "m2", "m3"]
        assert all(message["redelivered"] == "true" for message in again)
        await alice.ack(again[1])
        await cursor_is(back, "alice", ids[2])


async def test_acks_in_a_transaction_count_at_commit(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice"), versions=("1.1",)) as alice:
        await alice.subscribe("/user/queue/demo", ack="client-individual")
        ids = [await back.push("alice", f"m{n}") for n in range(2)]
        messages = await alice.next_messages(2)
        await alice.begin("t")
        await alice.ack(messages[0], transaction="t", receipt=True)
        await alice.ack(messages[1], transaction="t", receipt=True)
        assert await back.cursor("alice") is None
        await alice.commit("t")
        await cursor_is(back, "alice", ids[1])


async def test_one_unacknowledged_message_too_many_waits_for_an_ack(plane: Any, back: Backend) -> None:
    async with running_gateway(plane, limits=Limits(max_unacked_messages=3)) as gateway:
        await eventually(gateway.is_ready, within_s=10)
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo", ack="client")
            for n in range(5):
                await back.push("alice", f"m{n}")
            messages = await alice.next_messages(3)
            await alice.no_message()
            await alice.ack(messages[1])
            assert bodies(await alice.next_messages(2)) == ["m3", "m4"]


async def test_a_nack_puts_a_copy_aside_and_counts_as_handled(
    gateway: RunningGateway, back: Backend, plane: Any, amqp_admin: AmqpAdmin
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", ack="client-individual")
        message_id = await back.push("alice", "bad", headers={"x-a": "1"})
        await alice.nack(await alice.next_message(), receipt=True)

        async def is_put_aside() -> bool:
            return (await amqp_admin.queues(plane.vhost))[REJECTED_QUEUE] == 1

        assert await gateway.metric("messages_rejected_total") == 1

        await eventually(is_put_aside, within_s=10)
        await cursor_is(back, "alice", message_id)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_every_version_subscribes_acknowledges_and_leaves(
    gateway: RunningGateway, back: Backend, version: str
) -> None:
    async with connected(gateway.url, token=token("alice"), versions=(version,)) as alice:
        assert alice.version == version
        await alice.subscribe("/user/queue/demo", ack="client")
        message_id = await back.push("alice", "m")
        await alice.ack(await alice.next_message(), receipt=True)
        await cursor_is(back, "alice", message_id)
        await alice.unsubscribe()
        await alice.disconnect()


async def test_after_unsubscribe_nothing_comes_and_a_new_subscription_goes_on(
    gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", id="a")
        await alice.unsubscribe("a")
        await back.push("alice", "kept")
        await alice.no_message()
        await alice.subscribe("/user/queue/demo", id="b")
        assert (await alice.next_message()).text == "kept"
        await back.push("alice", "live")
        message = await alice.next_message()
        assert (message.text, message["subscription"]) == ("live", "b")


async def test_leaving_and_coming_back_quickly_never_loses_the_destination(
    gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        for n in range(30):
            await alice.subscribe("/user/queue/demo", id=f"s{n}", receipt=False)
            await alice.unsubscribe(f"s{n}", receipt=False)
        await alice.subscribe("/user/queue/demo", id="last")
        for n in range(10):
            await back.push("alice", f"m{n}")
        assert bodies(await alice.next_messages(10)) == [f"m{n}" for n in range(10)]


async def test_subscribing_while_messages_flow_loses_and_repeats_nothing(
    gateway: RunningGateway, back: Backend
) -> None:
    clients: list[StompClient] = []
    try:
        for n in range(40):
            if n % 8 == 0:
                clients.append(await StompClient.connect(gateway.url, token=token("alice")))
                await clients[-1].subscribe("/user/queue/demo", last_message_id="0-0", receipt=False)
            await back.push("alice", f"m{n}")
        for client in clients:
            messages = await client.next_messages(40)
            assert bodies(messages) == [f"m{n}" for n in range(40)]
    finally:
        for client in clients:
            await client.close()


async def test_a_returned_session_copy_arrives_by_the_gateways_own_queue(plane: Any, back: Backend) -> None:
    """The dispatcher still sends as in mode Session, and this gateway is of another mode already."""
    async with running_gateway(plane, ROUTING_MODE="Gateway") as gateway:
        await eventually(gateway.is_ready, within_s=10)
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo")
            await back.push("alice", "returned")
            assert (await alice.next_message()).text == "returned"
            assert [outcome.name for outcome in back.outcomes] == ["RETURNED", "CONFIRMED"]
