"""A gateway from its start to its end: what stands in the registry and at the broker, and what is left afterwards."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from local_run.containers import free_port
from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_contract.topology import build_gateway_queue
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from tests.support.amqp_admin import AmqpAdmin
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.gateways import Backend, RunningGateway, environment_of, running_gateway, token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import WITHIN_S, eventually

DEMO = Destination("queue", "demo")


async def bindings_of(amqp_admin: AmqpAdmin, vhost: str) -> list[tuple[str, str]]:
    return [(key, queue) for exchange, key, queue in await amqp_admin.bindings(vhost) if exchange == "amq.topic"]


async def test_a_session_stands_in_the_registry_while_it_lasts(
    plane: Any, gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        assert await back.sessions("alice") == {alice.session: SessionEntry(gateway.incarnation)}
        assert await back.members(gateway.incarnation) == 1
        await alice.subscribe("/user/queue/demo")
        entry = SessionEntry(gateway.incarnation, (DEMO,), frozenset({DEMO}))
        assert await back.sessions("alice") == {alice.session: entry}
        await alice.unsubscribe()

        async def has_no_destination() -> bool:
            return await back.sessions("alice") == {alice.session: SessionEntry(gateway.incarnation)}

        await eventually(has_no_destination)
        await alice.subscribe("/user/queue/demo")
        await alice.disconnect()

    async def nothing_is_left() -> bool:
        return not await back.sessions("alice") and not await back.members(gateway.incarnation)

    await eventually(nothing_is_left)


async def test_a_subscription_that_lasts_gets_a_queue_of_its_own_and_a_short_one_none(
    plane: Any, back: Backend, amqp_admin: AmqpAdmin
) -> None:
    async with running_gateway(plane, limits=Limits(own_queue_after_s=0.5)) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token("alice")) as alice:
            for n in range(20):
                await alice.subscribe("/user/queue/short", id=str(n))
                await alice.unsubscribe(str(n))
            await alice.subscribe("/user/queue/demo", id="lasts")
            assert await no_bindings(amqp_admin, plane.vhost)
            await back.push("alice", "over the gateway's queue")
            ((key, queue),) = await eventually(lambda: bindings_of(amqp_admin, plane.vhost))
            assert key == f"demo-user{alice.session}"
            assert queue.startswith("stomp-subscription-")

            async def entry_has_it() -> bool:
                entry = SessionEntry(gateway.incarnation, (DEMO,))
                return await back.sessions("alice") == {alice.session: entry}

            await eventually(entry_has_it)
            await back.push("alice", "over its own")
            assert [outcome.name for outcome in back.outcomes] == ["CONFIRMED", "CONFIRMED"], "nothing is returned"
            assert [(await alice.next_message()).text for _ in range(2)] == ["over the gateway's queue", "over its own"]
            await alice.unsubscribe("lasts")
            await eventually(lambda: no_bindings(amqp_admin, plane.vhost))


async def no_bindings(amqp_admin: AmqpAdmin, vhost: str) -> bool:
    return not await bindings_of(amqp_admin, vhost)


async def test_two_subscriptions_of_one_destination_leave_one_by_one(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", id="a")
        await alice.subscribe("/user/queue/demo", id="b")
        await alice.unsubscribe("a")
        await back.push("alice", "still here")
        assert (await alice.next_message())["subscription"] == "b"
        assert (await back.sessions("alice"))[alice.session].destinations == (DEMO,)


async def test_a_connection_that_breaks_leaves_the_registry_too(gateway: RunningGateway, back: Backend) -> None:
    alice = await StompClient.connect(gateway.url, token=token("alice"))
    await alice.subscribe("/user/queue/demo")
    await alice.abort_socket()

    async def is_gone() -> bool:
        return not await back.sessions("alice")

    await eventually(is_gone)


async def test_the_admin_server_tells_health_readiness_and_metrics(gateway: RunningGateway, back: Backend) -> None:
    assert (await gateway.admin("/healthz"))[0] == 200
    assert await gateway.admin("/readyz") == (200, "ready\n")
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await back.push("alice", "m")
        await alice.next_message()
        for name, value in (("connections", 1), ("sessions", 1), ("subscriptions", 1), ("messages_written_total", 1)):
            assert await gateway.metric(name) == value, name

    async def has_left() -> bool:
        assert await gateway.metric('closes_total{cause="client_disconnected"}') == 1
        return await gateway.metric("sessions") == 0 and await gateway.metric("subscriptions") == 0

    await eventually(has_left)


async def test_a_drain_tells_every_client_to_come_back_and_leaves_nothing_behind(
    plane: Any, back: Backend, amqp_admin: AmqpAdmin
) -> None:
    async with running_gateway(plane) as gateway:
        await eventually(gateway.is_ready)
        clients = [await StompClient.connect(gateway.url, token=token(f"user{n}")) for n in range(70)]
        await asyncio.gather(*(client.subscribe("/user/queue/demo") for client in clients))
        message_id = await back.push("user3", "m")
        await clients[3].next_message()
        gateway.stop.set()
        await eventually(lambda: says(gateway, "draining"))
        async with asyncio.timeout(WITHIN_S):
            assert [await client.wait_closed() for client in clients] == [close_codes.DRAINING.code] * 70
            await gateway.task
        assert await back.leases() == []
        assert await back.members(gateway.incarnation) == 0
        assert [user for user in range(70) if await back.sessions(f"user{user}")] == []
        assert str(await back.cursor("user3")) == message_id

        async def no_queue_is_left() -> bool:
            return not [name for name in await amqp_admin.queues(plane.vhost) if str(gateway.incarnation) in name]

        await eventually(no_queue_is_left)


async def test_without_connections_a_drain_waits_for_no_load_balancer(
    plane: Any, back: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pushcluster_gateway.drain.ENDPOINTS_UPDATE_S", 10 * WITHIN_S)
    async with running_gateway(plane) as gateway:
        await eventually(gateway.is_ready)
        await gateway.drain()


async def says(gateway: RunningGateway, reason: str) -> bool:
    return await gateway.admin("/readyz") == (503, f"{reason}\n")


async def test_a_message_sent_during_a_drain_waits_for_the_next_gateway(plane: Any, back: Backend) -> None:
    async with running_gateway(plane) as first, running_gateway(plane) as second:
        await eventually(first.is_ready)
        alice = await StompClient.connect(first.url, token=token("alice"))
        await alice.subscribe("/user/queue/demo")
        last = await back.push("alice", "m0")
        await alice.next_message()
        first.stop.set()
        pushed = 0
        while not alice.closed:
            pushed += 1
            await back.push("alice", f"m{pushed}")
        messages = [alice.messages.get_nowait() for _ in range(alice.messages.qsize())]
        await back.push("alice", "last")
        await eventually(second.is_ready)
        async with connected(second.url, token=token("alice")) as again:
            since = messages[-1]["message-id"] if messages else last
            receipt = await again.subscribe("/user/queue/demo", last_message_id=since)
            assert receipt is not None
            assert receipt["recovered"] == "true"
            while (not messages) or messages[-1].text != "last":
                messages.append(await again.next_message())
        assert [message.text for message in messages] == [*(f"m{n}" for n in range(1, pushed + 1)), "last"]


class TestProcess:
    @pytest.fixture
    async def process(self, plane: Any) -> AsyncIterator[GatewayProcess]:
        async with gateway_process(environment_of(plane, POD_UID="pod-1")) as running:
            await eventually(lambda: running.has_logged("lease taken") and running.has_logged("connected to RabbitMQ"))
            yield running

    async def test_sigterm_ends_it_with_0_and_leaves_nothing(self, process: GatewayProcess, back: Backend) -> None:
        async with connected(process.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo")
            assert await process.end(signal.SIGTERM) == 0
            assert await alice.wait_closed() == close_codes.DRAINING.code
        assert await back.leases() == []
        assert await back.sessions("alice") == {}

    async def test_what_a_killed_process_leaves_is_removed_by_the_next_one_of_its_pod(
        self, process: GatewayProcess, plane: Any, back: Backend, amqp_admin: AmqpAdmin
    ) -> None:
        async with connected(process.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo")
            await process.end(signal.SIGKILL)
        await back.push("alice", "while nobody held her")
        assert list(await back.sessions("alice")) == [alice.session], "kill -9 cleans nothing"
        killed, _ = build_gateway_queue(Incarnation.parse(process.incarnation))

        async def broker_has_dropped_its_queues() -> bool:
            return killed.name not in await amqp_admin.queues(plane.vhost)

        await eventually(broker_has_dropped_its_queues)
        async with gateway_process(environment_of(plane, POD_UID="pod-1")) as restarted:
            await eventually(lambda: restarted.has_logged("lease taken"))
            assert await back.sessions("alice") == {}
            assert process.incarnation not in await back.leases()
            await eventually(lambda: restarted.has_logged("connected to RabbitMQ"))
            async with connected(restarted.url, token=token("alice")) as again:
                await again.subscribe("/user/queue/demo")
                assert (await again.next_message()).text == "while nobody held her"

    async def test_without_redis_and_rabbitmq_it_waits_and_sigterm_still_ends_it_with_0(self, plane: Any) -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        urls = {"AMQP_URL": f"amqp://u:p@127.0.0.1:{port}/v", "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
        async with gateway_process(environment_of(plane, **urls)) as running:
            await eventually(lambda: running.has_logged("Redis is not available"))
            await eventually(lambda: running.has_logged("listening"))
            client = await StompClient.open(running.url)
            await client.send("CONNECT", {"accept-version": "1.2", "Authorization": f"Bearer {token('alice')}"})
            reference = (await client.expect_error()).text.split()[-1]
            (put_off,) = [record for record in running.log if record.get("reference") == reference]
            assert "Redis" in str(put_off["cause"])
            assert await running.end(signal.SIGTERM) == 0
        silent.close()

    async def test_a_wrong_setting_is_named_and_ends_it_with_2(self, plane: Any) -> None:
        async with gateway_process(
            environment_of(plane, JWKS_URL="http://keys.example", JWT_ALGORITHM="RS256")
        ) as running:
            assert await running.process.wait() == 2
        assert any("PUSHCLUSTER_JWKS_URL" in str(record["message"]) for record in running.log)
