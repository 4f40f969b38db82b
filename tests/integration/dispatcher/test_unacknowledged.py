"""Messages that nobody can deliver for long: RabbitMQ must not take them back by itself, which would reorder them."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from tests.integration.dispatcher.test_full_redis import FULL, room_left
from tests.support.amqp_admin import AmqpAdmin
from tests.support.dispatchers import Logs, Producer, RunningDispatcher, started_dispatcher
from tests.support.planes import Plane
from tests.support.waiting import eventually

USERS: Final = tuple(f"user-{n}" for n in range(20))
"""In most of the 16 partitions."""
EACH: Final = 10
"""Messages to each user at once."""
LIMIT_S: Final = 16.0
"""A busy machine must not make a dispatcher miss the second half of it."""
ROUNDS: Final = 4
WITHIN_S: Final = 120.0


class Sent:
    """What was sent to each user."""

    def __init__(self, producing: Producer) -> None:
        self.bodies: dict[str, list[str]] = defaultdict(list)
        self._producing = producing

    async def send(self, size: int = 0) -> None:
        """Send some messages more to everybody. They have no message id, so each append is a message of its own."""
        for _ in range(EACH):
            for user in USERS:
                body = f"{len(self.bodies[user])} ".ljust(size, ".")
                self._producing.send(user, body)
                self.bodies[user].append(body)
        await self._producing.confirmed()


@pytest.fixture
def sent(producing: Producer) -> Sent:
    return Sent(producing)


@asynccontextmanager
async def two_dispatchers(plane: Plane, *program: str) -> AsyncIterator[list[RunningDispatcher]]:
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(started_dispatcher(plane, program)) for _ in range(2)]
        for dispatcher in started:
            await dispatcher.wait_ready()
        yield started


async def wait_logs(logs: Logs, expected: Mapping[str, list[str]]) -> None:
    """Wait until the users' logs hold as many messages; they must be these, in this order."""

    async def all_there() -> bool:
        for user, bodies in expected.items():
            assert await logs.length(user) >= len(bodies), user
        return True

    await eventually(all_there, WITHIN_S)
    assert {user: await logs.bodies(user) for user in expected} == expected


async def total(dispatchers: list[RunningDispatcher], metric: str) -> float:
    return sum([await dispatcher.metric(metric) for dispatcher in dispatchers])


async def test_no_policy_makes_the_broker_take_messages_back(
    plane: Plane, amqp_admin: AmqpAdmin, sent: Sent, logs: Logs
) -> None:
    await amqp_admin.set_policy(plane.vhost, "^pushcluster", consumer_timeout=1_000)
    async with two_dispatchers(plane, "pushcluster_dispatcher") as dispatchers:

        async def has_waited_for_long() -> bool:
            oldest = [await dispatcher.metric("oldest_unacknowledged_seconds") for dispatcher in dispatchers]
            assert max(oldest) > 5
            return True

        async with room_left(logs, FULL):
            await sent.send()
            await eventually(has_waited_for_long, WITHIN_S)
            await sent.send()
        await wait_logs(logs, sent.bodies)
        assert await total(dispatchers, "given_back_total") == 0
        assert await total(dispatchers, "partition_resets_total") == 0


async def test_messages_that_are_given_back_again_and_again_stay_in_order_and_are_appended_once(
    plane: Plane, sent: Sent, logs: Logs
) -> None:
    async with two_dispatchers(plane, "tests.support.hasty_dispatcher", str(LIMIT_S)) as dispatchers:
        # Redis takes some of the first messages, and then no more.
        async with room_left(logs, 400_000):
            given_back = 0.0
            for _ in range(ROUNDS):
                await sent.send(size=6_000)
                before = given_back

                async def more_are_given_back(before: float = before) -> float:
                    now = await total(dispatchers, "given_back_total")
                    assert now > before
                    return now

                given_back = await eventually(more_are_given_back, WITHIN_S)
        await wait_logs(logs, sent.bodies)
        assert await total(dispatchers, "partition_resets_total") == 0, "the broker has taken messages back"

        async def all_are_acknowledged() -> bool:
            return await total(dispatchers, "acknowledged_total") == ROUNDS * EACH * len(USERS)

        await eventually(all_are_acknowledged, WITHIN_S)
