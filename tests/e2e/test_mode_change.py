"""The routing mode is changed on a live PushCluster under traffic, while pods of both modes run at once."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pushcluster_contract.routing import RoutingMode
from tests.e2e.follower import Follower
from tests.e2e.push_cluster import NAME, PushCluster, eventually
from tests.support.traffic import traffic
from tests.support.waiting import eventually as eventually_async

PAUSE_S = 0.02
AROUND_THE_CHANGE = 40
"""Messages that are published before the change begins, and after it has ended."""


def patch(pc: PushCluster, spec: dict[str, Any]) -> None:
    pc.kubectl("patch", "pcl", NAME, "--type", "merge", "--patch", json.dumps({"spec": spec}))
    pc.wait_ready()


@pytest.fixture(scope="module")
def live(shared: PushCluster) -> Iterator[PushCluster]:
    """The shared PushCluster with gateways that end soon; it is put back at the end."""
    # However long a client needs to come back on a slow machine, nothing leaves the log meanwhile.
    patch(shared, {"gateway": {"drain": {"seconds": 2}}, "delivery": {"offline": {"maxPerDestination": 100_000}}})
    yield shared
    patch(shared, {"gateway": {"drain": None}, "delivery": None, "routing": None})


def change_mode(pc: PushCluster, mode: RoutingMode) -> None:
    """Return when every gateway and dispatcher runs in the new mode."""
    patch(pc, {"routing": {"mode": mode.value}})

    def old_pods_are_gone() -> bool:
        return len(pc.pods("gateway")) == 2 and len(pc.pods("dispatcher")) == 2

    eventually(old_pods_are_gone, within_s=240, what="the pods of the former mode are gone")


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
    async with Follower.following(live.access, user) as follower:
        with traffic(live.access.producer_amqp_url, user, pause_s=PAUSE_S) as publisher:
            confirmed = publisher.confirmed
            await eventually_async(lambda: len(confirmed) >= AROUND_THE_CHANGE)
            await asyncio.to_thread(change_mode, live, mode)
            enough = len(confirmed) + AROUND_THE_CHANGE
            await eventually_async(lambda: len(confirmed) >= enough)
            await asyncio.to_thread(publisher.stop)
        await eventually_async(lambda: len(follower.messages) >= len(confirmed))
        assert list(follower.messages.values()) == confirmed
        assert (follower.gaps, follower.unmarked) == (0, 0)
        assert follower.connects > 1, "no gateway was replaced under the client"
        assert mode.value in live.kubectl("get", "pcl", NAME).split()
