"""Keys are exchanged as documented, under a live connection and a running publisher: nobody is cut or refused."""

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from demo.kubectl import Cluster
from demo.story import connect
from pushcluster_contract.tokens import HS256_KEY, HS256_SECOND_KEY, KEYS_DIRECTORY
from tests.e2e.api_publisher import ApiPublisher
from tests.e2e.follower import Follower
from tests.e2e.metrics import read_metric
from tests.e2e.push_cluster import NAME, PushCluster, eventually
from tests.support.stomp_client import StompError
from tests.support.waiting import eventually as eventually_async

REACHED_WITHIN_S = 120
"""The documented two minutes, until every gateway knows a changed Secret: kubelets look every 60 to 90 s."""
NUDGED_WITHIN_S = 120
ROLLED_WITHIN_S = 240
BOTH_SEEN_WITHIN_S = 120
TRIES = 10
"""The Service chooses one of two pods at random: one that answers otherwise hides from all of them once in 500 runs."""
AROUND_A_STEP = 40
"""Messages that are published before and after a step."""

SHOW_KEYS = f"""
import json, os
found = {{}}
for name in os.listdir({KEYS_DIRECTORY!r}):
    path = os.path.join({KEYS_DIRECTORY!r}, name)
    if os.path.isfile(path):
        found[name] = [open(path).read(), oct(os.stat(path).st_mode & 0o777), os.access(path, os.W_OK)]
print(json.dumps(found))
"""


@pytest.fixture
def rotating(cluster: Cluster) -> Iterator[PushCluster]:
    """A PushCluster whose keys may change."""
    with PushCluster.create(cluster, f"e2e-{secrets.token_hex(3)}", {}, slot=2) as pc:
        yield pc


def write_secret(pc: PushCluster, name: str, values: Mapping[str, str | None]) -> None:
    """Change entries of a Secret as a person would; None takes one out."""
    data = {key: None if value is None else base64.b64encode(value.encode()).decode() for key, value in values.items()}
    pc.kubectl("patch", "secret", name, "--type", "merge", "--patch", json.dumps({"data": data}))


def gateways(pc: PushCluster) -> dict[str, tuple[str, int]]:
    """Return UID and restarts of each gateway pod."""
    return {
        pod["metadata"]["name"]: (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in pc.pods("gateway")
    }


def files(pc: PushCluster, pod: str) -> dict[str, Any]:
    """Return the files with keys that a gateway sees: content, mode, and whether it may write them."""
    found: dict[str, Any] = json.loads(pc.kubectl("exec", pod, "--", "python", "-c", SHOW_KEYS))
    return found


def every_gateway_sees(pc: PushCluster, keys: dict[str, str], *, nudge: bool) -> bool:
    """Tell whether all have read these keys; a nudge makes their kubelets look at once, as any change of a pod does."""
    pods = list(gateways(pc))
    if nudge:
        pc.kubectl("annotate", "--overwrite", "pods", *pods, f"pushcluster.dev/test={secrets.token_hex(4)}")
    shown = {name: [key, "0o440", False] for name, key in keys.items()}
    return all(
        files(pc, pod) == shown and read_metric(pc.kubectl, pod, "pushcluster_gateway_auth_keys") == len(keys)
        for pod in pods
    )


async def wait_seen(pc: PushCluster, keys: dict[str, str], within_s: float, *, nudge: bool) -> None:
    await asyncio.to_thread(
        eventually,
        lambda: every_gateway_sees(pc, keys, nudge=nudge),
        within_s=within_s,
        what=f"every gateway has read {sorted(keys)} as they are now",
    )


async def is_let_in_everywhere(pc: PushCluster, key: str) -> None:
    """Connect with tokens of `key` until each gateway has let one in; fails at the first that is refused."""
    missing = set(gateways(pc))

    async def try_once() -> bool:
        client = await connect(pc.access, "carol", key)
        missing.discard(client.gateway)
        await client.close()
        return not missing

    async with asyncio.timeout(BOTH_SEEN_WITHIN_S):
        while not await try_once():
            pass


async def is_refused_everywhere(pc: PushCluster, key: str) -> None:
    for _ in range(TRIES):
        with pytest.raises(StompError, match="signature"):
            await connect(pc.access, "mallory", key)


async def exchange_the_key_of_tokens(pc: PushCluster) -> None:
    """The recipe of the field `auth.secretRef`: the next key second, exchange the two, remove the former one."""
    former, following = pc.access.jwt_key, secrets.token_hex(32)
    before = gateways(pc)
    await wait_seen(pc, {HS256_KEY: former}, NUDGED_WITHIN_S, nudge=False)
    await is_refused_everywhere(pc, following)

    # An entry that means nothing to a gateway does not get into its pod.
    added = {HS256_SECOND_KEY: following, "notes": "for people alone"}
    await asyncio.to_thread(write_secret, pc, f"{NAME}-jwt", added)
    await wait_seen(pc, {HS256_KEY: former, HS256_SECOND_KEY: following}, REACHED_WITHIN_S, nudge=False)
    await is_let_in_everywhere(pc, following)
    await is_let_in_everywhere(pc, former)

    await asyncio.to_thread(write_secret, pc, f"{NAME}-jwt", {HS256_KEY: following, HS256_SECOND_KEY: former})
    await wait_seen(pc, {HS256_KEY: following, HS256_SECOND_KEY: former}, NUDGED_WITHIN_S, nudge=True)
    await is_let_in_everywhere(pc, following)
    await is_let_in_everywhere(pc, former)

    await asyncio.to_thread(write_secret, pc, f"{NAME}-jwt", {HS256_SECOND_KEY: None})
    await wait_seen(pc, {HS256_KEY: following}, NUDGED_WITHIN_S, nudge=True)
    await is_refused_everywhere(pc, former)
    await is_let_in_everywhere(pc, following)
    assert gateways(pc) == before, "a gateway was replaced or restarted"


async def write_api_keys(pc: PushCluster, keys: str) -> None:
    """Return when every dispatcher runs with these keys and no other one is left."""
    before = {pod["metadata"]["uid"] for pod in pc.pods("dispatcher")}

    def has_rolled() -> bool:
        uids = {pod["metadata"]["uid"] for pod in pc.pods("dispatcher")}
        return len(uids) == len(before) and not uids & before

    await asyncio.to_thread(write_secret, pc, f"{NAME}-api", {"api-key": keys})
    await asyncio.to_thread(eventually, has_rolled, within_s=ROLLED_WITHIN_S, what="the dispatchers have rolled")
    await asyncio.to_thread(pc.wait_ready)


async def exchange_the_api_key(pc: PushCluster, publisher: ApiPublisher) -> None:
    """The recipe of docs/api.md: add a line, move every back end to it, take the old line out."""
    former, following = publisher.key, secrets.token_hex(16)
    await publisher.some_more(AROUND_A_STEP)
    assert [await publisher.try_key(following) for _ in range(TRIES)] == [401] * TRIES

    await write_api_keys(pc, f"{former}\n{following}\n")
    publisher.key = following
    await publisher.some_more(AROUND_A_STEP)
    assert [await publisher.try_key(former) for _ in range(TRIES)] == [202] * TRIES

    await write_api_keys(pc, f"{following}\n")
    assert [await publisher.try_key(former) for _ in range(TRIES)] == [401] * TRIES
    await publisher.some_more(AROUND_A_STEP)


async def test_both_kinds_of_keys_are_exchanged_without_cutting_or_refusing_anybody(rotating: PushCluster) -> None:
    async with Follower.following(rotating.access, "alice") as follower:
        async with ApiPublisher.publishing(rotating.access, "alice") as publisher, asyncio.TaskGroup() as group:
            group.create_task(exchange_the_key_of_tokens(rotating))
            group.create_task(exchange_the_api_key(rotating, publisher))
        await eventually_async(lambda: len(follower.messages) >= len(publisher.accepted))
        assert list(follower.messages.values()) == publisher.accepted
        assert publisher.refused == []
        assert follower.connects == 1, "what was proved with a key stays proved when the key goes"
        assert (follower.gaps, follower.unmarked) == (0, 0)
