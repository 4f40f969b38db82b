"""Changing `spec.routing.mode` on a live plane: old and new gateways and dispatchers run beside each other for a while.

The operator rolls both Deployments; here the same is done by hand, one program after another, under traffic.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import pytest
from websockets.exceptions import WebSocketException

from pushcluster_contract.routing import RoutingMode
from tests.support.dispatchers import Producer, RunningDispatcher, producer, running_dispatcher
from tests.support.gateways import RunningGateway, running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import StompClient, StompError
from tests.support.waiting import WITHIN_S, eventually

USERS: Final = [f"user-{n}" for n in range(6)]
ROUNDS: Final = 40
"""Messages to each user between two steps of the roll-out."""
RETRY_S: Final = 0.05


@dataclass
class Traffic:
    """A back end that never pauses: rounds of one message for each user, each confirmed before the next round."""

    producing: Producer
    rounds: int = 0
    stopped: bool = False

    async def run(self) -> None:
        while not self.stopped:
            for user in USERS:
                self.producing.send(user, str(self.rounds), message_id=f"{user}-{self.rounds}")
            await self.producing.confirmed()
            self.rounds += 1

    async def some(self) -> None:
        """Wait for ROUNDS more."""
        wanted = self.rounds + ROUNDS
        await eventually(lambda: self.rounds >= wanted)


@dataclass
class User:
    """A front end: connects to some gateway that is there, and resumes where it stopped."""

    name: str
    gateways: list[RunningGateway]
    seen: list[str] = field(default_factory=list)
    repeated_unmarked: list[str] = field(default_factory=list)
    gaps: int = 0
    pods: set[str] = field(default_factory=set)
    last: str | None = None

    async def run(self) -> None:
        for attempt in itertools.count():
            gateway = self.gateways[(attempt + len(self.name)) % len(self.gateways)]
            with suppress(StompError, OSError, WebSocketException, AssertionError, TimeoutError):
                await self._stay(gateway)
            await asyncio.sleep(RETRY_S)

    async def _stay(self, gateway: RunningGateway) -> None:
        client = await StompClient.connect(gateway.url, token=token(self.name))
        try:
            await client.subscribe("/user/queue/demo", last_message_id=self.last)
            self.pods.add(client.gateway)
            while True:
                message = await client.next_message()
                self.gaps += message.headers.get("recovered") == "false"
                if self.last is None or _number(message["message-id"]) > _number(self.last):
                    self.last = message["message-id"]
                    self.seen.append(message.text)
                elif message.headers.get("redelivered") != "true":
                    self.repeated_unmarked.append(message.text)
        finally:
            await client.close()


def _number(message_id: str) -> int:
    return int(message_id.partition("-")[2])


@dataclass
class RollOut:
    """Gateways and dispatchers of two modes."""

    plane: Plane
    stack: AsyncExitStack
    gateways: list[RunningGateway] = field(default_factory=list)
    dispatchers: list[RunningDispatcher] = field(default_factory=list)

    async def add_gateway(self, mode: RoutingMode) -> None:
        gateway = await self.stack.enter_async_context(running_gateway(self.plane, ROUTING_MODE=mode.value))
        await eventually(gateway.is_ready)
        self.gateways.append(gateway)

    async def add_dispatcher(self, mode: RoutingMode) -> None:
        variables = {"ROUTING_MODE": mode.value, "API_ENABLED": "false"}
        self.dispatchers.append(await self.stack.enter_async_context(running_dispatcher(self.plane, **variables)))

    async def replace_gateway(self, mode: RoutingMode) -> None:
        """A new one is there before an old one goes."""
        await self.add_gateway(mode)
        await self.gateways.pop(0).drain()

    async def replace_dispatcher(self, mode: RoutingMode) -> None:
        await self.add_dispatcher(mode)
        assert await self.dispatchers.pop(0).terminate() == 0


@asynccontextmanager
async def background(*work: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in work]  # type: ignore[call-overload]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(RoutingMode, 2)), ids=str)
async def test_a_change_of_mode_under_traffic_loses_reorders_and_repeats_nothing(
    plane: Plane, old: RoutingMode, new: RoutingMode
) -> None:
    async with AsyncExitStack() as stack, producer(plane) as producing:
        roll_out = RollOut(plane, stack)
        for _ in range(2):
            await roll_out.add_dispatcher(old)
            await roll_out.add_gateway(old)
        users = [User(name, roll_out.gateways) for name in USERS]
        traffic = Traffic(producing)
        async with background(*(user.run() for user in users)):
            await eventually(lambda: all(user.pods for user in users))
            publishing = asyncio.create_task(traffic.run())
            steps = (roll_out.replace_gateway, roll_out.replace_dispatcher)
            for replace in (*steps, *steps):
                await traffic.some()
                await replace(new)
            await traffic.some()
            traffic.stopped = True
            await asyncio.wait_for(publishing, WITHIN_S)
            expected = [str(n) for n in range(traffic.rounds)]
            await eventually(lambda: all(len(user.seen) >= len(expected) for user in users))
        for user in users:
            assert user.seen == expected
            assert (user.repeated_unmarked, user.gaps) == ([], 0)
            assert len(user.pods) > 1, "nobody was moved to another gateway"
        sent = [await dispatcher.metric("copies_sent_total") for dispatcher in roll_out.dispatchers]
        assert sum(sent) > 0
