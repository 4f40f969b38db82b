"""Gateways and dispatchers roll from the last release to this one, while a user is followed under traffic."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from demo.kubectl import Cluster
from local_cluster.last_release import LAST_RELEASE, PROGRAMS, part_name
from tests.e2e.follower import Follower
from tests.e2e.push_cluster import NAME, PushCluster, eventually
from tests.support.traffic import traffic
from tests.support.waiting import eventually as eventually_async

PAUSE_S = 0.02
AROUND_A_ROLL = 40
"""Messages that are published before a roll begins, and after it has ended."""


def build_spec(cluster: Cluster) -> dict[str, Any]:
    """Return a spec whose gateways and dispatchers are those of the last release."""
    return {
        # However long a client needs to come back on a slow machine, nothing leaves the log meanwhile.
        "delivery": {"offline": {"maxPerDestination": 100_000}},
        "gateway": {"replicas": 2, "drain": {"seconds": 2}, "image": cluster.images[part_name("gateway")]},
        "dispatcher": {"image": cluster.images[part_name("dispatcher")]},
    }


@pytest.fixture
def of_the_last_release(cluster: Cluster) -> Iterator[PushCluster]:
    if not {part_name(program) for program in PROGRAMS} <= cluster.images.keys():
        pytest.fail(
            f"The images of {LAST_RELEASE.version} are not in the nodes. Run `python3 -m local_cluster last-release`.",
            pytrace=False,
        )
    with PushCluster.create(cluster, f"e2e-{secrets.token_hex(3)}", build_spec(cluster), slot=3) as pc:
        yield pc


def roll(pc: PushCluster, program: str, image: str | None) -> None:
    """Let the pods of a program run another image; None is the operator's own. Return when these alone are left."""
    pc.kubectl("patch", "pcl", NAME, "--type", "merge", "--patch", json.dumps({"spec": {program: {"image": image}}}))
    pc.wait_ready()
    wanted = image or pc.host.images[program]

    def is_rolled() -> bool:
        images = [container["image"] for pod in pc.pods(program) for container in pod["spec"]["containers"]]
        return bool(images) and set(images) == {wanted}

    eventually(is_rolled, within_s=240, what=f"all pods of the {program} run {wanted}")


async def test_rolling_from_the_last_release_and_back_loses_no_confirmed_message(
    of_the_last_release: PushCluster,
) -> None:
    pc = of_the_last_release
    last = {program: pc.host.images[part_name(program)] for program in PROGRAMS}
    rolls = [
        *(("gateway", None), ("dispatcher", None)),
        *(("gateway", last["gateway"]), ("dispatcher", last["dispatcher"])),
        *(("dispatcher", None), ("gateway", None)),
    ]
    async with Follower.following(pc.access, "follower") as follower:
        with traffic(pc.access.producer_amqp_url, "follower", pause_s=PAUSE_S) as publisher:
            confirmed = publisher.confirmed
            for program, image in rolls:
                await more(confirmed)
                await asyncio.to_thread(roll, pc, program, image)
            await more(confirmed)
            await asyncio.to_thread(publisher.stop)
        await eventually_async(lambda: len(follower.messages) >= len(confirmed))
        assert list(follower.messages.values()) == confirmed
        assert (follower.gaps, follower.unmarked) == (0, 0)
        assert follower.connects > 1, "no gateway was replaced under the client"


async def more(confirmed: list[str]) -> None:
    """Wait until AROUND_A_ROLL more messages are confirmed."""
    enough = len(confirmed) + AROUND_A_ROLL
    await eventually_async(lambda: len(confirmed) >= enough)
