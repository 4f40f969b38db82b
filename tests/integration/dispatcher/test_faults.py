"""What a dispatcher makes of faults: nothing that was confirmed is lost, passed by a later one, or appended twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import pika
import pytest
from pika.exceptions import AMQPError

from pushcluster_contract.limits import INGRESS_PARTITIONS
from pushcluster_contract.topology import ingress_queue
from pushcluster_dispatcher.ingress.consumer import APPEND_CONNECTIONS
from pushcluster_operator.children.dispatcher import GRACE_S
from tests.support.containers import (
    Services,
    close_amqp_connection,
    close_amqp_connections,
    down,
    kill_and_start,
    paused,
    restart,
)
from tests.support.dispatchers import (
    API_KEY,
    Logs,
    Producer,
    RunningDispatcher,
    all_acknowledged,
    count_left,
    running_dispatcher,
    started_dispatcher,
)
from tests.support.gateways import running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.traffic import traffic
from tests.support.waiting import eventually

COUNT: Final = 30
BODIES: Final = [str(n) for n in range(COUNT)]


@contextlib.asynccontextmanager
async def barriers_held(logs: Logs) -> AsyncIterator[None]:
    """Have Redis fsync nothing by itself: WAITAOF waits until the end of the block."""
    await logs.redis.config_set("appendfsync", "no")
    try:
        yield
    finally:
        await logs.redis.config_set("appendfsync", "always")


async def wait_barrier(logs: Logs, dispatcher: RunningDispatcher) -> None:
    """Wait until the dispatcher's barrier waits for the disk. It begins a little after the append."""
    name = f"dispatcher:{dispatcher.pod_name}:barrier"

    async def waits() -> bool:
        (client,) = [client for client in await logs.redis.client_list() if client["name"] == name]
        return "b" in client["flags"]

    await eventually(waits)


async def wait_log(logs: Logs, user: str = "alice", expected: list[str] = BODIES) -> None:
    async def is_there() -> bool:
        assert await logs.bodies(user) == expected
        return True

    await eventually(is_there)


async def send_all(producing: Producer, user: str = "alice") -> None:
    for body in BODIES:
        producing.send(user, body, message_id=f"{user}-{body}")
    await producing.confirmed()


async def kill_redis_connection(logs: Logs, dispatcher: RunningDispatcher, which: str) -> None:
    """Cut the dispatcher's `append` connections or its `barrier` connection, by the names that it has given them."""
    name = f"dispatcher:{dispatcher.pod_name}:{which}"
    ids = [client["id"] for client in await logs.redis.client_list() if client["name"].startswith(name)]
    assert len(ids) == (APPEND_CONNECTIONS if which == "append" else 1)
    assert [await logs.redis.client_kill_filter(_id=each) for each in ids] == [1] * len(ids)


async def test_nothing_is_acknowledged_before_it_is_on_disk(plane: Plane, producing: Producer, logs: Logs) -> None:
    async with running_dispatcher(plane) as dispatcher:
        async with barriers_held(logs):
            await send_all(producing)
            await wait_log(logs)
            await wait_barrier(logs, dispatcher)
            assert await dispatcher.metric("acknowledged_total") == 0
        await all_acknowledged(plane, dispatcher, COUNT)


async def test_a_redis_connection_lost_before_the_barrier_loses_nothing_and_doubles_nothing(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane) as dispatcher:
        async with barriers_held(logs):
            await send_all(producing)
            await wait_log(logs)
            await wait_barrier(logs, dispatcher)
            await kill_redis_connection(logs, dispatcher, "append")
            # The partition of alice keeps them, and finds them in the log. The others had nothing, and begin anew.
            await dispatcher.wait_for_metric("attempts_again_total", COUNT, result="found")
            await dispatcher.wait_for_metric("partition_resets_total", INGRESS_PARTITIONS - 1)
            assert await dispatcher.metric("partition_resets_total") == INGRESS_PARTITIONS - 1
            assert await dispatcher.metric("duplicates_total") == 0
        await wait_log(logs)
        await all_acknowledged(plane, dispatcher, COUNT)


async def test_a_lost_barrier_connection_is_made_again_and_the_barrier_with_it(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane) as dispatcher:
        async with barriers_held(logs):
            await send_all(producing)
            await wait_log(logs)
            await wait_barrier(logs, dispatcher)
            await kill_redis_connection(logs, dispatcher, "barrier")
        await wait_log(logs)
        await dispatcher.wait_for_metric("acknowledged_total", COUNT)
        assert await dispatcher.metric("partition_resets_total") == 0
        await all_acknowledged(plane, dispatcher, COUNT)


async def test_what_redis_lost_before_the_barrier_is_appended_again(
    plane: Plane, producing: Producer, logs: Logs, services: Services
) -> None:
    """The worst case: all that Redis had answered is gone after its restart."""
    async with running_dispatcher(plane) as dispatcher:
        async with barriers_held(logs):
            await send_all(producing)
            await wait_log(logs)
            await wait_barrier(logs, dispatcher)
            await asyncio.to_thread(services.redis.exec, "rm", "-rf", "/data/appendonlydir")
            await kill_and_start(services.redis)
            assert (await logs.redis.config_get("appendfsync"))["appendfsync"] == "always"
        await wait_log(logs)
        await all_acknowledged(plane, dispatcher, COUNT)


async def test_a_killed_dispatcher_leaves_everything_to_the_next_one_in_order(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane) as first:
        async with barriers_held(logs):
            await send_all(producing)
            await wait_log(logs)
            await wait_barrier(logs, first)
            await first.kill()
        assert await count_left(plane) == COUNT
    producing.send("alice", "after", message_id="after")
    async with running_dispatcher(plane) as second:
        await wait_log(logs, expected=[*BODIES, "after"])
        await all_acknowledged(plane, second, COUNT + 1)


async def test_a_dispatcher_killed_under_traffic_loses_and_reorders_nothing(plane: Plane, logs: Logs) -> None:
    async with running_dispatcher(plane) as first, running_dispatcher(plane):
        with traffic(plane.amqp_url, "alice") as running:
            await eventually(lambda: len(running.confirmed) > 50)
            await first.kill()
            before = len(running.confirmed)
            await eventually(lambda: len(running.confirmed) > before + 50)
            confirmed = running.stop()
        await wait_log(logs, expected=confirmed[-1_000:])


@pytest.mark.parametrize("fault", ["redis killed", "redis frozen", "connections closed", "rabbitmq restarted"])
async def test_a_fault_under_traffic_loses_and_reorders_nothing(
    plane: Plane, logs: Logs, services: Services, fault: str
) -> None:
    async def bring_about() -> None:
        match fault:
            case "redis killed":
                await kill_and_start(services.redis)
            case "redis frozen":
                async with paused(services.redis):
                    await asyncio.to_thread(services.redis.is_running)
            case "connections closed":
                await close_amqp_connections(services, plane.vhost)
            case "rabbitmq restarted":
                await restart(services.rabbitmq)

    async with running_dispatcher(plane) as dispatcher:
        with traffic(plane.amqp_url, "alice") as running:
            await eventually(lambda: len(running.confirmed) > 50)
            await bring_about()
            before = len(running.confirmed)
            await eventually(lambda: len(running.confirmed) > before + 50)
            confirmed = running.stop()
        await wait_log(logs, expected=confirmed[-1_000:])
        await dispatcher.wait_ready()


async def test_a_full_redis_is_waited_for_and_no_message_is_skipped(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    before = (await logs.redis.config_get("maxmemory"))["maxmemory"]
    async with running_dispatcher(plane) as dispatcher:
        await logs.redis.config_set("maxmemory", "1")
        try:
            await send_all(producing)
            await send_all(producing, "bob")
            await eventually(lambda: "Redis does not take messages" in dispatcher.log())
            assert await logs.bodies("alice") == []
            assert await dispatcher.metric("acknowledged_total") == 0
        finally:
            await logs.redis.config_set("maxmemory", before)
        await wait_log(logs)
        await wait_log(logs, "bob")
        assert await dispatcher.metric("rejected_total", reason="script") == 0
        await all_acknowledged(plane, dispatcher, 2 * COUNT)


async def test_a_flushed_script_cache_is_no_fault(plane: Plane, producing: Producer, logs: Logs) -> None:
    async with running_dispatcher(plane):
        await send_all(producing)
        await wait_log(logs)
        await logs.redis.script_flush()
        await send_all(producing, "bob")
        await wait_log(logs, "bob")


async def test_without_an_append_only_file_it_goes_on_and_says_so(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane) as dispatcher:
        await logs.redis.config_set("appendonly", "no")
        try:
            await send_all(producing)
            await eventually(lambda: all_counted(dispatcher))
            assert await dispatcher.metric("durability_reduced") == 1
            assert await dispatcher.ready() == (
                True,
                "ready, but DurabilityReduced: Redis keeps no append-only file",
            )
            assert dispatcher.log().count("DurabilityReduced") == 1
        finally:
            await logs.redis.config_set("appendonly", "yes")
        producing.send("alice", "more")
        await eventually(lambda: is_ready_again(dispatcher))


async def all_counted(dispatcher: RunningDispatcher) -> bool:
    return await dispatcher.metric("acknowledged_total") == COUNT


async def is_ready_again(dispatcher: RunningDispatcher) -> bool:
    return await dispatcher.ready() == (True, "ready")


async def test_without_redis_no_partition_is_held_and_readiness_says_so(
    plane: Plane, producing: Producer, logs: Logs, services: Services
) -> None:
    async with running_dispatcher(plane, API_ENABLED="false") as dispatcher:
        async with down(services.redis):

            async def says_so() -> bool:
                ready, reason = await dispatcher.ready()
                return not ready and "Redis" in reason and await dispatcher.metric("partitions_consuming") == 0

            await eventually(says_so)
            await send_all(producing)
        await dispatcher.wait_ready()
        await wait_log(logs)


async def test_without_redis_the_api_stays_in_service_and_what_it_takes_is_delivered_later(
    plane: Plane, logs: Logs, services: Services
) -> None:
    async with running_dispatcher(plane) as dispatcher:
        async with down(services.redis):

            async def waits() -> bool:
                ready, reason = await dispatcher.ready()
                return ready and "wait in ingress" in reason

            await eventually(waits)
            url = f"{dispatcher.api_url}/v1/users/alice/messages"
            authorization = {"Authorization": f"Bearer {API_KEY}"}
            for body in BODIES:
                async with dispatcher.session.post(
                    url, params={"destination": "/queue/demo"}, data=body.encode(), headers=authorization
                ) as answer:
                    assert answer.status == 202
        await wait_log(logs)
        await eventually(lambda: is_ready_again(dispatcher))


async def test_a_dispatcher_started_before_its_services_waits_for_them(plane: Plane, services: Services) -> None:
    async with contextlib.AsyncExitStack() as fault:
        await fault.enter_async_context(down(services.redis))
        async with started_dispatcher(plane) as dispatcher:

            async def says_so() -> bool:
                ready, reason = await dispatcher.ready()
                return not ready and "Redis" in reason

            await eventually(says_so)
            assert dispatcher.process.returncode is None
            await fault.aclose()
            await dispatcher.wait_ready()


async def test_sigterm_while_redis_is_frozen_ends_within_its_bound(
    plane: Plane, producing: Producer, logs: Logs, services: Services
) -> None:
    async with running_dispatcher(plane) as dispatcher, paused(services.redis):
        await send_all(producing)
        assert await dispatcher.terminate(within_s=GRACE_S) == 0
    async with running_dispatcher(plane):
        await wait_log(logs)


async def test_what_was_not_sent_over_a_lost_connection_for_copies_is_sent_again(
    plane: Plane, services: Services
) -> None:
    """The partition that has begun keeps its messages, and nothing is acknowledged before its copies are sent."""
    async with (
        running_gateway(plane) as gateway,
        running_dispatcher(plane) as dispatcher,
        connected(gateway.url, token=token("alice")) as alice,
    ):
        await alice.subscribe("/user/queue/demo")
        with traffic(plane.amqp_url, "alice") as running:
            await eventually(lambda: len(running.confirmed) > 50)
            await close_amqp_connection(services, f"dispatcher {dispatcher.pod_name} copies")
            before = len(running.confirmed)
            await eventually(lambda: len(running.confirmed) > before + 50)
            confirmed = running.stop()
        assert [message.text for message in await alice.next_messages(len(confirmed))] == confirmed
        await dispatcher.wait_for_metric("partition_resets_total", INGRESS_PARTITIONS - 1)
        assert await dispatcher.metric("copies_left_out_total") == 0
        await dispatcher.wait_ready()


async def test_a_queue_that_cannot_be_declared_keeps_neither_the_other_partitions_nor_the_api(
    plane: Plane, logs: Logs
) -> None:
    """Its name is taken by another form: a dispatcher that worked before stays, a new one is not ready."""
    url = pika.URLParameters(plane.amqp_url)

    def take_name() -> None:
        with pika.BlockingConnection(url) as connection:
            channel = connection.channel()
            channel.queue_delete(ingress_queue(3))
            channel.queue_declare(ingress_queue(3), durable=True)

    async with running_dispatcher(plane) as worked:
        await take_until_refused(take_name, worked)

        async def tells() -> bool:
            ready, reason = await worked.ready()
            return (
                ready
                and "partition 3 could not be consumed" in reason
                and "406" in reason
                and await worked.metric("partitions_refused") == 1
            )

        await eventually(tells)
        async with started_dispatcher(plane) as new:

            async def is_kept_unready() -> bool:
                ready, reason = await new.ready()
                return not ready and "partition 3 could not be consumed" in reason

            await eventually(is_kept_unready)
            await new.wait_for_metric("partitions_consuming", INGRESS_PARTITIONS - 1)
            async with new.session.post(
                f"{new.api_url}/v1/users/alice/messages",
                params={"destination": "/queue/demo"},
                data=b"through",
                headers={"Authorization": f"Bearer {API_KEY}"},
            ) as answer:
                assert answer.status == 202
            await wait_log(logs, expected=["through"])


async def take_until_refused(take_name: Callable[[], None], dispatcher: RunningDispatcher) -> None:
    """The dispatcher may declare the queue again in between: then its name is taken once more."""

    async def is_refused() -> bool:
        with contextlib.suppress(AMQPError):
            await asyncio.to_thread(take_name)
        return await dispatcher.metric("partitions_consuming") == INGRESS_PARTITIONS - 1

    await eventually(is_refused)
