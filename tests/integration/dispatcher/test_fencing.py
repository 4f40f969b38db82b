"""Who was frozen does nothing behind its successor, and what Redis did not answer is looked up, not repeated."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from pushcluster_contract.headers import POSSIBLY_REPEATED
from pushcluster_dispatcher.ingress.consumer import APPEND_CONNECTIONS
from tests.support.containers import Services, close_amqp_connection, kill_and_start, paused
from tests.support.dispatchers import (
    Logs,
    Producer,
    RunningDispatcher,
    all_acknowledged,
    running_dispatcher,
    wait_log,
)
from tests.support.gateways import running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.traffic import Traffic, traffic
from tests.support.waiting import eventually

BODIES: Final = [str(n) for n in range(30)]
WINDOW_S: Final = 1


@asynccontextmanager
async def full(logs: Logs) -> AsyncIterator[None]:
    """Have Redis take no message inside the block."""
    before = (await logs.redis.config_get("maxmemory"))["maxmemory"]
    await logs.redis.config_set("maxmemory", "1")
    try:
        yield
    finally:
        await logs.redis.config_set("maxmemory", before)


@asynccontextmanager
async def frozen(dispatcher: RunningDispatcher) -> AsyncIterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    dispatcher.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        dispatcher.process.send_signal(signal.SIGCONT)


async def says(dispatcher: RunningDispatcher, text: str) -> None:
    await eventually(lambda: text in dispatcher.log())


@pytest.mark.parametrize("ids", [True, False])
async def test_a_dispatcher_that_was_frozen_for_longer_than_the_window_appends_nothing_behind_its_successor(
    plane: Plane, producing: Producer, logs: Logs, services: Services, ids: bool
) -> None:
    """It wakes with all messages in hand and an append due, before it can know that they are somebody else's."""
    window = str(WINDOW_S)
    async with running_dispatcher(plane, IDEMPOTENCY_WINDOW_SECONDS=window) as first:
        async with full(logs):
            for body in BODIES:
                producing.send("alice", body, message_id=f"alice-{body}" if ids else None)
            await producing.confirmed()
            await says(first, "Redis does not take messages")
            first.process.send_signal(signal.SIGSTOP)
        async with running_dispatcher(plane, IDEMPOTENCY_WINDOW_SECONDS=window) as second:
            await close_amqp_connection(services, f"dispatcher {first.pod_name}")
            await wait_log(logs, "alice", BODIES)
            await second.wait_for_metric("acknowledged_total", len(BODIES))
            marks = {tuple(entry.headers) for entry in await logs.entries("alice")}
            assert marks == {() if ids else (POSSIBLY_REPEATED,)}
            if ids:

                async def is_forgotten() -> bool:
                    return not [key async for key in logs.redis.scan_iter(f"pc:{plane.cluster}:*:id:*")]

                await eventually(is_forgotten)
            first.process.send_signal(signal.SIGCONT)
            # The frozen one goes on, and learns what has happened.
            await says(first, "no connection to RabbitMQ")
            producing.send("alice", "after")
            await wait_log(logs, "alice", [*BODIES, "after"])
            assert await logs.bodies("alice") == [*BODIES, "after"]


async def goes_on(running: Traffic, count: int) -> None:
    before = len(running.confirmed)
    await eventually(lambda: len(running.confirmed) > before + count)


async def lose_replies(logs: Logs, dispatcher: RunningDispatcher) -> None:
    """Cut the connections over which the dispatcher appends, as soon as they are there."""
    name = f"dispatcher:{dispatcher.pod_name}:append"

    async def is_cut() -> bool:
        ids = [client["id"] for client in await logs.redis.client_list() if client["name"].startswith(name)]
        cut = [await logs.redis.client_kill_filter(_id=each) for each in ids]
        return len(cut) == APPEND_CONNECTIONS and all(cut)

    await eventually(is_cut)


@pytest.mark.parametrize("fault", ["frozen", "killed", "cut", "cut twice"])
async def test_while_the_broker_stands_nothing_is_appended_twice_without_any_id(
    plane: Plane, logs: Logs, services: Services, fault: str
) -> None:
    """Redis stands still for longer than the dispatcher waits, and then does what it had been asked to."""
    async with (
        running_gateway(plane) as gateway,
        running_dispatcher(plane) as dispatcher,
        connected(gateway.url, token=token("alice")) as alice,
    ):
        await alice.subscribe("/user/queue/demo")
        with traffic(plane.amqp_url, "alice", ids=False) as running:
            await eventually(lambda: len(running.confirmed) > 50)
            match fault:
                case "frozen":
                    async with paused(services.redis):
                        await says(dispatcher, "the dispatcher keeps what has begun")
                case "killed":
                    await kill_and_start(services.redis)
                case _:
                    for _ in range(len(fault.split())):
                        await lose_replies(logs, dispatcher)
                        await goes_on(running, 20)
            await goes_on(running, 50)
            confirmed = running.stop()
        await wait_log(logs, "alice", confirmed[-1_000:])
        assert await dispatcher.metric("appended_total") == len(confirmed)
        got = [message.text for message in await alice.next_messages(len(confirmed))]
        assert got == confirmed
        await all_acknowledged(plane, dispatcher, len(confirmed))


async def test_a_dispatcher_without_redis_gives_its_partitions_to_one_that_has_it(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    async with running_dispatcher(plane) as first, running_dispatcher(plane):
        await lose_replies(logs, first)
        for body in BODIES:
            producing.send("alice", body)
        await producing.confirmed()
        await wait_log(logs, "alice", BODIES)
