"""A message from ingress to the user's log, through a dispatcher process with real RabbitMQ and Redis."""

import asyncio
import json

import pytest

from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_contract.topology import (
    REJECTED_QUEUE,
)
from tests.support.amqp_admin import AmqpAdmin
from tests.support.dispatchers import (
    Logs,
    Producer,
    RunningDispatcher,
    all_acknowledged,
    running_dispatcher,
    started_dispatcher,
    wait_log,
)
from tests.support.planes import Plane
from tests.support.waiting import eventually


async def test_a_message_is_in_the_log_before_it_leaves_ingress(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    producing.send(
        "alice", b"\x00\xff", message_id="m1", content_type="text/plain", headers={"x-kind": "news", "other": 1}
    )
    await producing.confirmed()
    await eventually(lambda: dispatcher.metric("acknowledged_total"))
    (entry,) = await logs.entries("alice")
    assert (entry.body, entry.content_type, entry.producer_message_id) == (b"\x00\xff", "text/plain", "m1")
    assert entry.headers == {"x-kind": "news"}
    await all_acknowledged(plane, dispatcher, 1)


async def test_many_messages_of_many_users_are_all_in_order(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    for n in range(2_000):
        producing.send(f"user{n % 40}", str(n))
    await producing.confirmed()
    for user in range(40):
        expected = [str(n) for n in range(user, 2_000, 40)]
        await wait_log(logs, f"user{user}", expected)
    entries = await logs.entries("user7")
    assert [entry.id.seq for entry in entries] == list(range(1, 51))


async def test_the_same_message_id_is_one_message(
    dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    for _ in range(5):
        producing.send("alice", "hi", message_id="m1")
    producing.send("alice", "end", message_id="m2")
    await dispatcher.wait_for_metric("acknowledged_total", 6)
    assert await logs.bodies("alice") == ["hi", "end"]
    assert await dispatcher.metric("duplicates_total") == 4


async def test_the_limits_of_offline_delivery_are_kept_and_what_falls_out_is_counted(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane, OFFLINE_MAX_PER_DESTINATION="3") as dispatcher:
        for n in range(10):
            producing.send("alice", str(n))
        await wait_log(logs, "alice", ["7", "8", "9"])
        await dispatcher.wait_for_metric("dropped_undelivered_total", 7)
        assert await dispatcher.metric("dropped_undelivered_total") == 7


async def test_large_messages_are_held_within_bounds_and_stay_in_order(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    """400 bodies are 26 MB, and a partition holds 2 MiB: it has to begin again with a smaller prefetch."""
    bodies = [f"{n:>{MAX_BODY_BYTES}}" for n in range(400)]
    for body in bodies:
        producing.send("alice", body, message_id=body.strip())
    await producing.confirmed()
    async with running_dispatcher(plane) as dispatcher:
        producing.send("alice", "small", message_id="small")

        async def is_there() -> bool:
            return await logs.length("alice") == 401

        await eventually(is_there)
        assert await logs.bodies("alice") == [*bodies, "small"]
        assert await dispatcher.metric("duplicates_total") == 0
        assert await dispatcher.metric("partition_restarts_total") >= 1
        assert await dispatcher.metric("partition_resets_total") == 0
        await all_acknowledged(plane, dispatcher, 401)


async def test_two_dispatchers_share_the_partitions_and_one_takes_over_in_order(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane) as first, running_dispatcher(plane) as second:
        for n in range(1_000):
            producing.send(f"user{n % 50}", str(n), message_id=str(n))
        await producing.confirmed()
        await eventually(lambda: all_there(logs, 50, 1_000))
        counts = [await each.metric("received_total") for each in (first, second)]
        assert min(counts) > 0
        for n in range(1_000, 3_000):
            producing.send(f"user{n % 50}", str(n), message_id=str(n))
            if n == 2_000:
                leaving = asyncio.create_task(first.terminate())
        await producing.confirmed()
        assert await leaving == 0
        await eventually(lambda: all_there(logs, 50, 3_000))
        for user in range(50):
            assert await logs.bodies(f"user{user}") == [str(n) for n in range(user, 3_000, 50)]


async def all_there(logs: Logs, users: int, messages: int) -> bool:
    return sum([await logs.length(f"user{n}") for n in range(users)]) == messages


async def test_readiness_says_what_is_missing(plane: Plane, amqp_admin: AmqpAdmin) -> None:
    nowhere = plane.amqp_url.replace(plane.vhost, "nowhere")
    async with started_dispatcher(plane, AMQP_URL=nowhere) as dispatcher:

        async def says_why() -> bool:
            ready, reason = await dispatcher.ready()
            return not ready and "nowhere" in reason

        await eventually(says_why)
        assert await dispatcher.terminate() == 0
    queues = await amqp_admin.queues(plane.vhost)
    assert REJECTED_QUEUE not in queues


@pytest.mark.parametrize(
    ("variables", "named"),
    [({"ROUTING_MODE": "Direct"}, "PUSHCLUSTER_ROUTING_MODE"), ({"API_KEY": ""}, "PUSHCLUSTER_API_KEY")],
)
async def test_a_wrong_setting_ends_the_process_with_its_name(
    plane: Plane, variables: dict[str, str], named: str
) -> None:
    async with started_dispatcher(plane, **variables) as dispatcher:
        assert await dispatcher.process.wait() == 2
        (line,) = dispatcher.log().splitlines()
        assert named in json.loads(line)["message"]
