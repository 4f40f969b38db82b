"""What producers hear of their messages, over HTTP and AMQP, with real dispatchers, gateways, Redis and RabbitMQ."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.outcomes import REPORT_TYPE, OutcomeReport, ReplyAddress
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.topology import PUSH_EXCHANGE, REJECTED_QUEUE, Queue
from pushcluster_dispatcher.api.requests import MAX_WAIT_MS
from pushcluster_gateway.limits import Limits
from pushcluster_runtime.amqp import (
    AmqpChannel,
    AmqpConnection,
    ConfirmOutcome,
    Delivery,
)
from tests.support.amqp_admin import AmqpAdmin
from tests.support.containers import Services, down
from tests.support.dispatchers import API_KEY, DEMO, Logs, RunningDispatcher, consuming, running_dispatcher
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.gateways import (
    CLOCK_ERROR_MS,
    Backend,
    RunningGateway,
    environment_of,
    running_gateway,
    token,
)
from tests.support.planes import Plane
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

AUTHORIZED: Final = {"Authorization": f"Bearer {API_KEY}"}
DIRECT: Final = "amq.rabbitmq.reply-to"
EXPIRES_MS: Final = 3_000
"""Long enough that a message does not expire on its way to the log."""


async def post(
    dispatcher: RunningDispatcher, body: str, *, wait_ms: int = MAX_WAIT_MS, expiration: int | None = None
) -> tuple[int, list[dict[str, str]]]:
    """Publish over HTTP and return the status and the outcomes."""
    url = f"{dispatcher.api_url}/v1/users/alice/messages?destination={DEMO}&wait={wait_ms}"
    if expiration is not None:
        url += f"&expiration={expiration}"
    async with dispatcher.session.post(url, data=body, headers=AUTHORIZED) as response:
        answer = await response.json(content_type=None)
        assert "outcomes" in answer, answer
        return response.status, answer["outcomes"]


async def get(dispatcher: RunningDispatcher, path: str) -> tuple[int, dict[str, Any]]:
    async with dispatcher.session.get(dispatcher.api_url + path, headers=AUTHORIZED) as response:
        return response.status, await response.json()


def outcomes_by_session(outcomes: Sequence[dict[str, str]]) -> dict[str, str]:
    return {outcome["session"]: outcome["outcome"] for outcome in outcomes}


async def acknowledge_next(client: StompClient) -> None:
    await client.ack(await client.next_message())


async def refuse_next(client: StompClient) -> None:
    await client.nack(await client.next_message())


@pytest.mark.parametrize("mode", RoutingMode)
async def test_each_session_has_its_own_outcome(plane: Plane, mode: RoutingMode) -> None:
    async with (
        running_dispatcher(plane, ROUTING_MODE=mode) as dispatcher,
        running_gateway(plane, ROUTING_MODE=mode) as one,
        running_gateway(plane, ROUTING_MODE=mode) as other,
        AsyncExitStack() as stack,
    ):
        for each in (one, other):
            await eventually(each.is_ready)
        auto = await stack.enter_async_context(connected(one.url, token=token("alice")))
        client = await stack.enter_async_context(connected(other.url, token=token("alice")))
        individual = await stack.enter_async_context(connected(other.url, token=token("alice")))
        refusing = await stack.enter_async_context(connected(one.url, token=token("alice")))
        deaf = await stack.enter_async_context(connected(one.url, token=token("alice")))
        idle = await stack.enter_async_context(connected(one.url, token=token("alice")))
        await auto.subscribe("/user/queue/demo")
        await client.subscribe("/user/queue/demo", ack="client")
        await individual.subscribe("/user/queue/demo", ack="client-individual")
        await refusing.subscribe("/user/queue/demo", ack="client")
        await idle.subscribe("/user/queue/other")

        posting = asyncio.create_task(post(dispatcher, "hello"))
        await asyncio.gather(acknowledge_next(client), acknowledge_next(individual), refuse_next(refusing))
        status, outcomes = await posting
        assert status == 200
        assert outcomes_by_session(outcomes) == {
            auto.session: "written",
            client.session: "acked",
            individual.session: "acked",
            refusing.session: "rejected",
        }
        assert {each["session"]: each["gateway"] for each in outcomes}[client.session] == other.pod_name
        assert (await auto.next_message()).text == "hello"

        await deaf.subscribe("/user/queue/demo", ack="client")
        posting = asyncio.create_task(post(dispatcher, "again", wait_ms=1_500))
        await asyncio.gather(acknowledge_next(client), acknowledge_next(individual), acknowledge_next(refusing))
        status, outcomes = await posting
        assert status == 202
        assert outcomes_by_session(outcomes)[deaf.session] == "pending"


async def test_what_nobody_gets_now_is_stored_and_comes_later(
    dispatcher: RunningDispatcher, gateway: RunningGateway
) -> None:
    assert await post(dispatcher, "kept") == (200, [{"outcome": "stored"}])
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", ack="client")
        await alice.ack(await alice.next_message(), receipt=True)
        assert await gateway.metric("outcomes_sent_total") == 0, "it was not there when the message was published"


@pytest.mark.parametrize("mode", RoutingMode)
async def test_a_retry_hears_what_became_of_the_message_before_and_another_body_is_a_conflict(
    plane: Plane, mode: RoutingMode
) -> None:
    async with (
        running_dispatcher(plane, ROUTING_MODE=mode) as dispatcher,
        running_gateway(plane, ROUTING_MODE=mode) as gateway,
    ):
        await eventually(gateway.is_ready)

        async def publish(body: str, user: str = "alice", wait_ms: int = MAX_WAIT_MS) -> tuple[int, Any]:
            url = f"{dispatcher.api_url}/v1/users/{user}/messages?destination={DEMO}&wait={wait_ms}"
            headers = {**AUTHORIZED, "Idempotency-Key": "order-7"}
            async with dispatcher.session.post(url, data=body, headers=headers) as response:
                return response.status, await response.json(content_type=None)

        async def gateway_reports() -> bool:
            return (await publish("hello", "bob", 500))[0] == 200

        async with (
            connected(gateway.url, token=token("bob")) as bob,
            connected(gateway.url, token=token("alice")) as auto,
            connected(gateway.url, token=token("alice")) as client,
        ):
            await bob.subscribe("/user/queue/demo")
            await eventually(gateway_reports)  # its connection for outcomes may come up later than it is ready
            await auto.subscribe("/user/queue/demo")
            await client.subscribe("/user/queue/demo", ack="client")
            first = asyncio.create_task(publish("hello"))
            await acknowledge_next(client)
            for status, answer in (await first, await publish("hello")):
                assert status == 200
                expected = {auto.session: "written", client.session: "acked"}
                assert outcomes_by_session(answer["outcomes"]) == expected
            status, answer = await publish("another")
            assert (status, answer["status"]) == (409, 409)
            assert "under this message id before" in answer["detail"]
            assert (await auto.next_message()).text == "hello"
            await auto.no_message(for_s=0.2)
        await eventually(lambda: _has_no_sessions(dispatcher, "alice"))
        async with connected(gateway.url, token=token("alice")) as later:
            await later.subscribe("/user/queue/demo")
            status, answer = await publish("hello")
            assert (status, outcomes_by_session(answer["outcomes"])) == (200, {later.session: "written"})
        await eventually(lambda: _has_no_sessions(dispatcher, "alice"))
        status, answer = await publish("hello")
        assert (status, answer["outcomes"]) == (200, [{"outcome": "written"}])


async def _has_no_sessions(dispatcher: RunningDispatcher, user: str) -> bool:
    _, answer = await get(dispatcher, f"/v1/users/{user}/sessions")
    return not answer["sessions"]


async def test_a_message_that_was_too_old_when_its_turn_came_is_expired(
    plane: Plane, dispatcher: RunningDispatcher, logs: Logs
) -> None:
    async with running_gateway(plane, limits=Limits(max_unacked_messages=1)) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo", ack="client")
            await post(dispatcher, "first", wait_ms=1)
            first = await alice.next_message()
            posting = asyncio.create_task(post(dispatcher, "old", expiration=EXPIRES_MS))

            async def is_too_old() -> bool:
                _, answer = await get(dispatcher, f"/v1/users/alice/route?destination={DEMO}")
                seconds, microseconds = await logs.redis.time()
                newest = answer["offline"]["newest"]
                now_ms = seconds * 1_000 + microseconds // 1_000
                return bool(newest.endswith("-2") and now_ms > int(newest[:-2]) + EXPIRES_MS + CLOCK_ERROR_MS)

            await eventually(is_too_old)
            await alice.ack(first)
            assert await posting == (
                200,
                [{"outcome": "expired", "session": alice.session, "gateway": gateway.pod_name}],
            )


@asynccontextmanager
async def killable_gateway(plane: Plane) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(environment_of(plane)) as process:
        await eventually(lambda: process.has_logged("connected to RabbitMQ"))
        yield process


async def test_a_gateway_that_dies_before_it_writes_leaves_it_pending_and_the_message_still_comes(
    plane: Plane, dispatcher: RunningDispatcher, gateway: RunningGateway
) -> None:
    async with killable_gateway(plane) as dying:
        alice = await StompClient.connect(dying.url, token=token("alice"))
        await alice.subscribe("/user/queue/demo")
        dying.process.send_signal(19)  # SIGSTOP: its copy arrives and is never written
        posting = asyncio.create_task(post(dispatcher, "survives", wait_ms=4_000))
        status, outcomes = await posting
        assert (status, outcomes) == (202, [{"outcome": "pending", "session": alice.session}])
        dying.process.kill()
        await alice.wait_closed()
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        assert (await alice.next_message()).text == "survives"


async def test_redis_away_is_pending_and_the_message_still_comes(
    dispatcher: RunningDispatcher, gateway: RunningGateway, services: Services
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        async with down(services.redis):
            assert await post(dispatcher, "later", wait_ms=500) == (202, [{"outcome": "pending"}])
        assert (await alice.next_message()).text == "later"


# Over AMQP


@dataclass
class Asker:
    """A producer with the rights of one, and what it hears."""

    channel: AmqpChannel
    reply_to: str
    heard: list[Delivery] = field(default_factory=list)

    async def send(self, user: str, body: str, correlation_id: str | None = None, **properties: Any) -> None:
        given = {"headers": {"destination": str(DEMO)}, "reply_to": self.reply_to, **properties}
        outcome = await self.channel.publish(
            PUSH_EXCHANGE,
            user,
            body.encode(),
            BasicProperties(correlation_id=correlation_id, delivery_mode=2, **given),
            mandatory=False,
        )
        assert outcome is ConfirmOutcome.CONFIRMED

    async def reports(self, count: int) -> list[OutcomeReport]:
        await eventually(lambda: len(self.heard) >= count)
        assert all(each.properties.type == REPORT_TYPE for each in self.heard)
        return [OutcomeReport.parse(each.body) for each in self.heard]


@asynccontextmanager
async def asking(url: str, reply_queue: Queue | None) -> AsyncIterator[Asker]:
    """Connect; without a queue, by RabbitMQ's direct reply-to."""
    amqp = await AmqpConnection.connect(url, name="asker")
    try:
        channel = await amqp.channel(confirm=True)
        name = DIRECT if reply_queue is None else reply_queue.name
        if reply_queue is not None:
            await channel.declare_queue(reply_queue)
        asker = Asker(channel, name)
        await channel.consume(name, asker.heard.append, no_ack=True)
        yield asker
    finally:
        await amqp.close()


@pytest.fixture
async def producer_url(plane: Plane, amqp_admin: AmqpAdmin) -> str:
    """The URL of a user with the rights that the operator gives to producers."""
    user, password = f"producer-{secrets.token_hex(4)}", secrets.token_hex(8)
    await amqp_admin.create_user(plane.vhost, user, password, write=f"^{PUSH_EXCHANGE}$")
    return f"amqp://{user}:{password}@{plane.amqp_url.split('@')[1]}"


async def test_a_producer_without_any_right_but_to_publish_hears_by_direct_reply_to(
    dispatcher: RunningDispatcher, gateway: RunningGateway, producer_url: str
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice, asking(producer_url, None) as asker:
        await alice.subscribe("/user/queue/demo", ack="client")
        await asker.send("alice", "hello", "c-1", message_id="order-7")
        await asker.send("bob", "hello", "c-2")
        await acknowledge_next(alice)
        reports = {report.user: report for report in await asker.reports(2)}
        assert reports["bob"].outcome.value == "stored"
        acked = reports["alice"]
        assert (acked.outcome.value, acked.session, acked.gateway) == ("acked", alice.session, gateway.pod_name)
        assert (acked.sessions, acked.producer_message_id) == ((alice.session,), "order-7")
        assert {each.properties.correlation_id for each in asker.heard} == {"c-1", "c-2"}


async def test_a_producer_with_a_queue_of_its_own_hears_one_outcome_a_session(
    plane: Plane, dispatcher: RunningDispatcher, gateway: RunningGateway
) -> None:
    queue = Queue("orders.replies", {"x-queue-type": "classic"}, exclusive=True)
    async with (
        connected(gateway.url, token=token("alice")) as one,
        connected(gateway.url, token=token("alice")) as two,
        asking(plane.amqp_url, queue) as asker,
    ):
        await one.subscribe("/user/queue/demo")
        await two.subscribe("/user/queue/demo", ack="client-individual")
        await asker.send("alice", "hello")
        await acknowledge_next(two)
        reports = {report.session: report for report in await asker.reports(2)}
        assert {sid: report.outcome.value for sid, report in reports.items()} == {
            one.session: "written",
            two.session: "acked",
        }
        assert all(set(report.sessions) == {one.session, two.session} for report in reports.values())


async def test_an_outcome_comes_even_when_the_copy_was_lost(
    plane: Plane, gateway: RunningGateway, back: Backend
) -> None:
    """The next message shows the hole, and the log has both what was missed and whom to tell."""
    queue = Queue("orders.replies", {"x-queue-type": "classic"}, exclusive=True)
    async with connected(gateway.url, token=token("alice")) as alice, asking(plane.amqp_url, queue) as asker:
        await alice.subscribe("/user/queue/demo", ack="client-individual")
        back.send_copies = False
        lost = await back.push("alice", "one", reply=ReplyAddress(queue.name, "c-1"))
        back.send_copies = True
        await back.push("alice", "two")
        first, _ = await alice.next_messages(2)
        assert asker.heard == []
        await alice.ack(first)
        (report,) = await asker.reports(1)
        assert (report.outcome.value, report.message_id, report.sessions) == ("acked", lost, (alice.session,))


async def test_what_is_malformed_is_answered_and_kept(
    plane: Plane, dispatcher: RunningDispatcher, producer_url: str
) -> None:
    async with asking(producer_url, None) as asker, consuming(plane) as rejected:
        await asker.send("alice", "x", "c-1", headers={"destination": "/queue/a.b"})
        (report,) = await asker.reports(1)
        assert report.outcome.value == "rejected"
        assert "/queue/<name>" in report.reason
        await eventually(lambda: rejected)


@pytest.mark.parametrize("reply_to", ["nobody.is.there", f"{DIRECT}.garbage", f"{DIRECT}.g1h2AA=="])
async def test_a_reply_queue_that_is_gone_costs_nothing(
    plane: Plane, dispatcher: RunningDispatcher, gateway: RunningGateway, logs: Logs, reply_to: str
) -> None:
    async with (
        connected(gateway.url, token=token("alice")) as alice,
        asking(plane.amqp_url, Queue("orders.replies", {"x-queue-type": "classic"}, exclusive=True)) as asker,
    ):
        await alice.subscribe("/user/queue/demo")
        for n in range(20):
            await asker.send("alice", str(n), reply_to=reply_to)
            await asker.send("bob", str(n), reply_to=reply_to)
        assert [message.text for message in await alice.next_messages(20)] == [str(n) for n in range(20)]
        await eventually(lambda: _holds(logs, "bob", 20))
        assert await dispatcher.metric("partition_resets_total") == 0
        assert await gateway.metric("amqp_errors_total") == 0
        await asker.send("alice", "last")
        (report,) = await asker.reports(1)
        assert report.outcome.value == "written"


async def _holds(logs: Logs, user: str, count: int) -> bool:
    return await logs.length(user) == count


async def test_no_producer_can_have_the_cluster_write_to_its_own_queues(
    plane: Plane, dispatcher: RunningDispatcher, gateway: RunningGateway
) -> None:
    queue = Queue("orders.replies", {"x-queue-type": "classic"}, exclusive=True)
    async with asking(plane.amqp_url, queue) as asker, consuming(plane, REJECTED_QUEUE) as rejected:
        await asker.send("alice", "x", reply_to=f"pushcluster.gateway.{gateway.incarnation}")
        await eventually(lambda: rejected)
        assert "the cluster itself" in str(rejected[0].properties.headers)


async def test_messages_that_ask_for_nothing_carry_nothing(
    dispatcher: RunningDispatcher, gateway: RunningGateway, logs: Logs
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        url = f"{dispatcher.api_url}/v1/users/alice/messages?destination={DEMO}"
        await dispatcher.session.post(url, data="x", headers=AUTHORIZED)
        await alice.next_message()
        assert [entry.reply for entry in await logs.entries("alice")] == [""]
        assert await gateway.metric("outcomes_sent_total") == 0
