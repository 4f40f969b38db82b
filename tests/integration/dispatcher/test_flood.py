"""Mode Session: a single push goes to its subscription's queue, a flood to the queue of its gateway."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from pushcluster_contract.batch import parse_batch, parse_copy
from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.routing import TOPIC_EXCHANGE, gateway_queue, session_key
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_contract.topology import Binding, build_gateway_queue, build_subscription_queue
from pushcluster_runtime.amqp import AmqpConnection, Delivery
from tests.support.dispatchers import DEMO, Logs, Producer, RunningDispatcher, running_dispatcher
from tests.support.planes import Plane
from tests.support.waiting import eventually

GATEWAY: Final = Incarnation("pod", "0" * 16)
USERS: Final = 20
MESSAGES: Final = 2_000

Played = list[Delivery]
"""What arrives at a gateway that is played, in all of its queues together."""


def sid_of(number: int) -> str:
    return session_id(number.to_bytes(17, "little"))


@pytest.fixture
async def gateway(plane: Plane, producing: Producer, logs: Logs) -> AsyncIterator[Played]:
    """A gateway with one session of each user, each with a queue of its own. The producer has made the exchanges."""
    received: Played = []
    amqp = await AmqpConnection.connect(plane.amqp_url, name="gateway")
    channel = await amqp.channel()
    queue, binding = build_gateway_queue(GATEWAY)
    await channel.declare_queue(queue)
    await channel.bind(binding)
    await channel.consume(queue.name, received.append, no_ack=True)
    for number in range(USERS):
        own = build_subscription_queue(str(number))
        await channel.declare_queue(own)
        await channel.bind(Binding(TOPIC_EXCHANGE, own.name, session_key(DEMO.name, sid_of(number))))
        await channel.consume(own.name, received.append, no_ack=True)
        await logs.register(f"user{number}", sid_of(number), SessionEntry(GATEWAY, (DEMO,)).encode())
    yield received
    await amqp.close()


def bodies_in(received: Played, user: str) -> list[int]:
    return [
        int(parse_copy(delivery.body, span).body)
        for delivery in received
        for address, span in parse_batch(delivery.body)
        if address == f"{user}/queue/demo".encode()
    ]


def paths_of(received: Played) -> list[tuple[str, str]]:
    return [(delivery.exchange, delivery.routing_key) for delivery in received]


async def count_joined(dispatcher: RunningDispatcher) -> float:
    return await dispatcher.metric("copies_joined_total")


async def test_a_single_push_goes_to_the_queue_of_its_subscription(
    dispatcher: RunningDispatcher, producing: Producer, gateway: Played
) -> None:
    for number in range(3):
        producing.send(f"user{number}", "1")
    await eventually(lambda: len(gateway) == 3)
    assert set(paths_of(gateway)) == {("amq.topic", f"demo-user{sid_of(number)}") for number in range(3)}
    assert await count_joined(dispatcher) == 0


async def test_a_flood_is_joined_in_order_without_loss_or_repetition_and_a_push_after_it_is_not(
    plane: Plane, producing: Producer, gateway: Played
) -> None:
    for n in range(MESSAGES):
        producing.send(f"user{n % USERS}", str(n))
    await producing.confirmed()
    async with running_dispatcher(plane) as dispatcher:
        expected = {f"user{number}": list(range(number, MESSAGES, USERS)) for number in range(USERS)}
        await eventually(lambda: sum(len(bodies_in(gateway, user)) for user in expected) >= MESSAGES)
        await dispatcher.wait_for_metric("copies_sent_total", MESSAGES)
        joined = await count_joined(dispatcher)
        assert {user: bodies_in(gateway, user) for user in expected} == expected
        assert joined > 0.8 * MESSAGES
        assert {("", gateway_queue(GATEWAY))} < set(paths_of(gateway))
        assert len(gateway) < MESSAGES / 2
        assert await dispatcher.metric("copies_returned_total") == 0

        async def arrives_alone() -> bool:
            del gateway[:]
            producing.send("user0", "0")
            await eventually(lambda: gateway)
            return paths_of(gateway) == [("amq.topic", f"demo-user{sid_of(0)}")]

        await eventually(arrives_alone)
