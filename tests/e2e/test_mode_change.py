"""The routing mode is changed on a live PushCluster under traffic, while pods of both modes run at once."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from demo.story import connect
from pushcluster_contract.routing import RoutingMode
from tests.e2e.push_cluster import NAME, PushCluster, eventually
from tests.support.stomp_client import ServerFrame, StompClient, StompError
from tests.support.traffic import traffic
from tests.support.waiting import eventually as eventually_async

USER_QUEUE = "/user/queue/demo"
PAUSE_S = 0.02
"""Between two messages: while a client is away no more must come than `delivery.offline` keeps."""
AROUND_THE_CHANGE = 40
"""Messages that are published before the change begins, and after it has ended."""
ARRIVED_WITHIN_S = 60


class Follower:
    """A client as front ends have it: connects again whenever it is cut, and resumes where it stopped."""

    def __init__(self, pc: PushCluster, user: str) -> None:
        self.messages: dict[str, str] = {}
        """`message-id` to body, in the order in which they came first."""
        self.connects = 0
        self.gaps = 0
        self.unmarked = 0
        """Messages that came again without saying so."""
        self._pc = pc
        self._user = user

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            client = await connect(self._pc.access, self._user)
            self.connects += 1
            try:
                await client.subscribe(USER_QUEUE, id="0", last_message_id=next(reversed(self.messages), None))
                while True:
                    self._take(await client.next_message(within_s=3_600))
            except (StompError, ConnectionClosed, OSError):
                continue
            finally:
                await self._leave(client)

    def _take(self, message: ServerFrame) -> None:
        message_id = message["message-id"]
        self.gaps += message.headers.get("recovered") == "false"
        self.unmarked += message_id in self.messages and message.headers.get("redelivered") != "true"
        self.messages.setdefault(message_id, message.text)

    async def _leave(self, client: StompClient) -> None:
        with suppress(ConnectionClosed, OSError):
            await client.close()


def patch(pc: PushCluster, spec: dict[str, Any]) -> None:
    pc.kubectl("patch", "pc", NAME, "--type", "merge", "--patch", json.dumps({"spec": spec}))
    pc.wait_ready()


@pytest.fixture(scope="module")
def live(shared: PushCluster) -> Iterator[PushCluster]:
    """The shared PushCluster with gateways that end soon; it is put back at the end."""
    patch(shared, {"gateway": {"drain": {"seconds": 2}}})
    yield shared
    patch(shared, {"gateway": {"drain": None}, "routing": None})


def change_mode(pc: PushCluster, mode: RoutingMode) -> None:
    """Return when every gateway and dispatcher runs in the new mode."""
    patch(pc, {"routing": {"mode": mode.value}})

    def old_pods_are_gone() -> bool:
        return len(pc.pods("gateway")) == 2 and len(pc.pods("dispatcher")) == 2

    eventually(old_pods_are_gone, within_s=120, what="the pods of the former mode are gone")


@pytest.mark.parametrize(
    ("former", "mode"),
    [
        (RoutingMode.SESSION, RoutingMode.GATEWAY),
        (RoutingMode.GATEWAY, RoutingMode.BROADCAST),
        (RoutingMode.BROADCAST, RoutingMode.SESSION),
    ],
)
async def test_changing_the_mode_under_traffic_loses_no_confirmed_message(
    live: PushCluster, former: RoutingMode, mode: RoutingMode
) -> None:
    await asyncio.to_thread(change_mode, live, former)
    user = f"follower-{mode.value.lower()}"
    follower = Follower(live, user)
    following = asyncio.create_task(follower.run())
    try:
        with traffic(live.access.producer_amqp_url, user, pause_s=PAUSE_S) as publisher:
            confirmed = publisher.confirmed
            await eventually_async(lambda: len(confirmed) >= AROUND_THE_CHANGE, within_s=30)
            await asyncio.to_thread(change_mode, live, mode)
            enough = len(confirmed) + AROUND_THE_CHANGE
            await eventually_async(lambda: len(confirmed) >= enough, within_s=30)
            await asyncio.to_thread(publisher.stop)
        await eventually_async(lambda: len(follower.messages) >= len(confirmed), within_s=ARRIVED_WITHIN_S)
        assert list(follower.messages.values()) == confirmed
        assert (follower.gaps, follower.unmarked) == (0, 0)
        assert follower.connects > 1, "no gateway was replaced under the client"
        assert mode.value in live.kubectl("get", "pc", NAME).split()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
