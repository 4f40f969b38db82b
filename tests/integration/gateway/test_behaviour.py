"""What users get is the same in all three routing modes: a real dispatcher, two real gateways, real services."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio

from pushcluster_contract.destinations import Destination
from pushcluster_contract.headers import REJECT_USER
from pushcluster_contract.limits import LOG_PAGE_ENTRIES
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.topology import REFUSED_QUEUE
from pushcluster_gateway.limits import Limits
from pushcluster_runtime.hops import DISPATCHER_HOPS, GATEWAY_HOPS
from tests.support.containers import Services
from tests.support.dispatchers import (
    DEMO,
    Logs,
    Producer,
    RunningDispatcher,
    consuming,
    producer,
    reading_logs,
    running_dispatcher,
)
from tests.support.gateways import RunningGateway, running_gateway, token
from tests.support.planes import Plane, fresh_plane
from tests.support.stomp_client import ServerFrame, StompClient, connected
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUEUE: Final = "/user/queue/demo"
TOPIC: Final = "/user/topic/demo"
KEPT: Final = 2 * LOG_PAGE_ENTRIES + 50
"""Messages that a user's log keeps here: gateways read them in several pages."""
FLOWING: Final = 40


@dataclass
class Stage:
    """One mode's plane. Each test has users of its own."""

    plane: Plane
    dispatcher: RunningDispatcher
    gateways: tuple[RunningGateway, RunningGateway]
    producing: Producer
    logs: Logs

    async def push(self, user: str, *bodies: str, **properties: object) -> None:
        """Publish as a back end does, and wait for the confirms."""
        for body in bodies:
            self.producing.send(user, body, **properties)
        await self.producing.confirmed()

    async def appended(self, user: str, count: int, destination: Destination = DEMO) -> None:
        """Wait until the user's log has grown to so many entries."""

        async def is_there() -> bool:
            entries = await self.logs.entries(user, destination)
            return bool(entries) and entries[-1].id.seq >= count

        await eventually(is_there)

    async def cursor_at(self, user: str, message: ServerFrame) -> None:
        """Wait until the registry knows that everything up to this message was delivered."""

        async def reached() -> bool:
            cursor = await self.logs.redis.hget(self.logs.keys.meta(user, DEMO), "cursor")
            assert (cursor or b"").decode() == message["message-id"]
            return True

        await eventually(reached)

    async def client(self, user: str, *, gateway: int = 0) -> StompClient:
        return await StompClient.connect(self.gateways[gateway].url, token=token(user))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(RoutingMode), ids=str)
async def stage(request: pytest.FixtureRequest, services: Services) -> AsyncIterator[Stage]:
    mode: RoutingMode = request.param
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        plane = await enter(fresh_plane(services))
        variables = {"ROUTING_MODE": mode.value, "OFFLINE_MAX_PER_DESTINATION": str(KEPT)}
        producing = await enter(producer(plane))
        dispatcher = await enter(running_dispatcher(plane, **variables))
        # No walk brings what a copy should have brought, however long these tests take.
        limits = Limits(walk_round_s=3_600)
        one = await enter(running_gateway(plane, limits=limits, ROUTING_MODE=mode.value))
        two = await enter(running_gateway(plane, limits=limits, ROUTING_MODE=mode.value))
        for gateway in (one, two):
            await eventually(gateway.is_ready)
        yield Stage(plane, dispatcher, (one, two), producing, await enter(reading_logs(plane)))


def texts(messages: list[ServerFrame]) -> list[str]:
    return [message.text for message in messages]


async def test_all_sessions_of_the_named_user_get_a_message_and_nobody_else_does(stage: Stage) -> None:
    sessions = [await stage.client("alice", gateway=n) for n in (0, 0, 1)]
    bob = await stage.client("bob", gateway=1)
    for client in (*sessions, bob):
        await client.subscribe(QUEUE)
    await stage.push("alice", "for alice")
    await stage.push("bob", "for bob")
    assert [(await client.next_message()).text for client in sessions] == ["for alice"] * 3
    assert (await bob.next_message()).text == "for bob"
    for client in (*sessions, bob):
        await client.no_message(0.1)
        await client.close()


async def test_messages_arrive_by_their_copies_and_not_by_reading_the_log(stage: Stage) -> None:
    gateway = stage.gateways[1]
    pages = await gateway.metric("catchup_pages_total")
    detours = await stage.dispatcher.metric("copies_returned_total")
    async with connected(gateway.url, token=token("copied")) as client:
        await client.subscribe(QUEUE)
        await stage.push("copied", *map(str, range(30)))
        assert texts(await client.next_messages(30)) == [str(n) for n in range(30)]
        assert await gateway.metric("catchup_pages_total") == pages + 1, "one at the SUBSCRIBE, none for the messages"
        assert await gateway.metric("holes_total") == 0
        assert await stage.dispatcher.metric("copies_returned_total") == detours


async def test_every_hop_of_a_push_is_timed(stage: Stage) -> None:
    async def counts() -> list[float]:
        name = "hop_seconds_count"
        dispatcher = [await stage.dispatcher.metric(name, hop=hop.value) for hop in DISPATCHER_HOPS]
        return dispatcher + [await gateway.metric(f'{name}{{hop="{hop}"}}') for hop in GATEWAY_HOPS]

    gateway = stage.gateways[1]
    before = await counts()
    async with connected(gateway.url, token=token("timed")) as client:
        await client.subscribe(QUEUE)

        async def all_moved() -> bool:
            await stage.push("timed", "hi")  # the next one is followed if this one is not
            await client.next_message()
            return all(after > earlier for after, earlier in zip(await counts(), before, strict=True))

        await eventually(all_moved)
    assert await gateway.metric("hop_clock_errors_total") == 0


async def test_everything_of_a_message_reaches_the_client(stage: Stage) -> None:
    async with connected(stage.gateways[0].url, token=token("whole")) as client:
        await client.subscribe(QUEUE, id="s")
        headers = {"x-kind": "a:b\nc", "traceparent": "00-1", "private": "no"}
        await stage.push("whole", "ü\0", message_id="m1", content_type="text/plain", headers=headers)
        message = await client.next_message()
        (entry,) = await stage.logs.entries("whole")
        assert message.text == "ü\0"
        assert message.headers == {
            "destination": QUEUE,
            "subscription": "s",
            "message-id": str(entry.id),
            "producer-message-id": "m1",
            "content-type": "text/plain",
            "content-length": "3",
            "x-kind": "a:b\nc",
            "traceparent": "00-1",
        }


async def test_order_holds_for_each_user_and_destination(stage: Stage) -> None:
    users = [f"ordered-{n}" for n in range(5)]
    clients = [await stage.client(user, gateway=n % 2) for n, user in enumerate(users)]
    for client in clients:
        await client.subscribe(QUEUE, id="q")
        await client.subscribe(TOPIC, id="t")
    for n in range(40):
        for user in users:
            stage.producing.send(user, str(n), destination="/queue/demo")
            stage.producing.send(user, str(n), destination="/topic/demo")
    await stage.producing.confirmed()
    for client in clients:
        messages = await client.next_messages(80)
        for subscription in ("q", "t"):
            got = [message.text for message in messages if message["subscription"] == subscription]
            assert got == [str(n) for n in range(40)]
        await client.close()


async def test_queue_and_topic_of_one_name_are_told_apart(stage: Stage) -> None:
    async with connected(stage.gateways[0].url, token=token("apart")) as client:
        await client.subscribe(QUEUE, id="q")
        await client.subscribe(TOPIC, id="t")
        await stage.push("apart", "to the queue", destination="/queue/demo")
        await stage.push("apart", "to the topic", destination="/topic/demo")
        got = {message["subscription"]: message.text for message in await client.next_messages(2)}
        assert got == {"q": "to the queue", "t": "to the topic"}
        await client.no_message(0.1)


async def test_what_an_offline_user_was_sent_comes_in_order_and_is_not_replayed(stage: Stage) -> None:
    await stage.push("offline", *map(str, range(KEPT)))
    await stage.appended("offline", KEPT)
    kept = [str(entry.id) for entry in await stage.logs.entries("offline")]
    async with connected(stage.gateways[0].url, token=token("offline")) as client:
        await client.subscribe(QUEUE)
        messages = await client.next_messages(KEPT)
        assert texts(messages) == [str(n) for n in range(KEPT)]
        assert [message["message-id"] for message in messages] == kept
        assert not any("recovered" in message.headers for message in messages)
        await stage.cursor_at("offline", messages[-1])
    async with connected(stage.gateways[1].url, token=token("offline")) as client:
        await client.subscribe(QUEUE)
        await stage.push("offline", "new")
        assert (await client.next_message()).text == "new"


async def test_a_resume_on_another_gateway_replays_exactly_what_was_missed(stage: Stage) -> None:
    async with connected(stage.gateways[0].url, token=token("resuming")) as client:
        await client.subscribe(QUEUE)
        await stage.push("resuming", *"01234")
        messages = await client.next_messages(5)
        await client.abort_socket()
    await stage.cursor_at("resuming", messages[-1])
    await stage.push("resuming", *"567")
    await stage.appended("resuming", 8)
    async with connected(stage.gateways[1].url, token=token("resuming")) as client:
        receipt = await client.subscribe(QUEUE, last_message_id=messages[2]["message-id"])
        assert receipt is not None
        assert receipt["recovered"] == "true"
        again = await client.next_messages(5)
        assert texts(again) == list("34567")
        assert [message.headers.get("recovered") for message in again] == ["true", *[None] * 4]
        assert [message.headers.get("redelivered") for message in again] == ["true", "true", *[None] * 3]
        await stage.push("resuming", "live")
        assert (await client.next_message()).text == "live"


async def test_a_gap_is_signalled(stage: Stage) -> None:
    await stage.push("gap", *map(str, range(KEPT + 10)))
    await stage.appended("gap", KEPT + 10)
    first = (await stage.logs.entries("gap"))[0].id
    async with connected(stage.gateways[0].url, token=token("gap")) as client:
        receipt = await client.subscribe(QUEUE, last_message_id=f"{first.ms}-1")
        assert receipt is not None
        assert receipt["recovered"] == "false"
        messages = await client.next_messages(KEPT)
        assert texts(messages) == [str(n) for n in range(10, KEPT + 10)]
        assert messages[0]["recovered"] == "false"


async def test_ack_mode_auto_counts_what_the_socket_took(stage: Stage) -> None:
    async with connected(stage.gateways[0].url, token=token("auto")) as client:
        await client.subscribe(QUEUE, ack="auto")
        await stage.push("auto", *"012")
        await stage.cursor_at("auto", (await client.next_messages(3))[-1])


async def test_ack_mode_client_is_cumulative_and_the_rest_comes_again(stage: Stage) -> None:
    async with connected(stage.gateways[0].url, token=token("cumulative")) as client:
        await client.subscribe(QUEUE, ack="client")
        await stage.push("cumulative", *"0123")
        messages = await client.next_messages(4)
        await client.ack(messages[1], receipt=True)
        await stage.cursor_at("cumulative", messages[1])
    async with connected(stage.gateways[1].url, token=token("cumulative")) as client:
        await client.subscribe(QUEUE, ack="client")
        again = await client.next_messages(2)
        assert [(message.text, message["redelivered"]) for message in again] == [("2", "true"), ("3", "true")]


async def test_ack_mode_client_individual_settles_one_by_one(stage: Stage) -> None:
    async with connected(stage.gateways[0].url, token=token("individual")) as client:
        await client.subscribe(QUEUE, ack="client-individual")
        await stage.push("individual", *"0123")
        messages = await client.next_messages(4)
        await client.ack(messages[2], receipt=True)
        await client.ack(messages[0], receipt=True)
        await stage.cursor_at("individual", messages[0])
    async with connected(stage.gateways[0].url, token=token("individual")) as client:
        await client.subscribe(QUEUE)
        again = await client.next_messages(3)
        assert [(message.text, message["redelivered"]) for message in again] == [(body, "true") for body in "123"]


async def test_a_nack_puts_a_copy_into_push_refused_and_counts_as_handled(stage: Stage) -> None:
    before = await stage.gateways[0].metric("messages_rejected_total")
    async with connected(stage.gateways[0].url, token=token("refusing")) as client:
        await client.subscribe(QUEUE, ack="client-individual")
        await stage.push("refusing", "bad", "good")
        bad, good = await client.next_messages(2)
        await client.nack(bad, receipt=True)
        await client.ack(good, receipt=True)
        await stage.cursor_at("refusing", good)
        async with consuming(stage.plane, REFUSED_QUEUE) as refused:
            await eventually(lambda: refused)
            assert [(each.body, (each.properties.headers or {})[REJECT_USER]) for each in refused] == [
                (b"bad", "refusing")
            ]
        assert await stage.gateways[0].metric("messages_rejected_total") == before + 1


async def test_after_unsubscribe_nothing_comes_and_a_new_subscription_goes_on(stage: Stage) -> None:
    async with connected(stage.gateways[0].url, token=token("leaving")) as client:
        await client.subscribe(QUEUE, id="a")
        await stage.push("leaving", "before")
        await stage.cursor_at("leaving", await client.next_message())
        await client.unsubscribe("a")
        await stage.push("leaving", "kept")
        await stage.appended("leaving", 2)
        await client.no_message(0.2)
        await client.subscribe(QUEUE, id="b")
        assert (await client.next_message()).text == "kept"
        await stage.push("leaving", "live")
        message = await client.next_message()
        assert (message.text, message["subscription"]) == ("live", "b")


async def test_a_message_published_again_under_its_message_id_appears_once(stage: Stage) -> None:
    async with connected(stage.gateways[1].url, token=token("doubled")) as client:
        await client.subscribe(QUEUE)
        for _ in range(3):
            await stage.push("doubled", "once", message_id="m1")
        await stage.push("doubled", "end", message_id="m2")
        assert texts(await client.next_messages(2)) == ["once", "end"]
        await client.no_message(0.1)
        assert await stage.logs.bodies("doubled") == ["once", "end"]


async def test_subscribing_while_messages_flow_loses_and_repeats_nothing(stage: Stage) -> None:
    clients: list[StompClient] = []
    for n in range(FLOWING):
        if n % 8 == 0:
            clients.append(await stage.client("flowing", gateway=len(clients) % 2))
            await clients[-1].subscribe(QUEUE, last_message_id="0-0", receipt=False)
        stage.producing.send("flowing", str(n))
    await stage.producing.confirmed()
    for client in clients:
        assert texts(await client.next_messages(FLOWING)) == [str(n) for n in range(FLOWING)]
        await client.no_message(0.05)
        await client.close()
