"""While Redis or RabbitMQ is away, gateways stay in the Service, clients are served or told, and the status says it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from demo.kubectl import Cluster
from demo.publish import NotAccepted, publish_http
from demo.story import connect
from demo.tokens import mint
from pushcluster_contract.destinations import Destination
from pushcluster_contract.keys import Keys
from tests.e2e.push_cluster import NAME, PushCluster, eventually
from tests.support.stomp_client import StompClient
from tests.support.waiting import eventually as eventually_async

USER_QUEUE = "/user/queue/demo"
DESTINATION = "/queue/demo"
AWAY_S = 20
"""A store is away for at least so long: twice as long as gateways once took to leave the Service."""
POD_CHANGES_WITHIN_S = 180
SLOW_SAID_WITHIN_S = 30
AWAY_SAID_WITHIN_S = 75
"""Sweeps must have failed for 30 s. One without an answer takes up to 8 s, and the operator looks every 10 s."""
HEALED_WITHIN_S = 120
AT_ONCE_S = 5
"""A copy takes milliseconds. The walk, which rereads every log, takes two minutes."""
TOLD_WITHIN_S = 15
"""A gateway decides on a CONNECT within 10 s."""
TRIES = 5
"""Connections while Redis is away. The Service spreads them over both gateways."""


@pytest.fixture
def losing_redis(cluster: Cluster) -> Iterator[PushCluster]:
    """A PushCluster that will be without Redis for a while."""
    with PushCluster.create(cluster, f"e2e-{secrets.token_hex(3)}", {}, slot=2) as pc:
        yield pc


@pytest.fixture
def losing_rabbitmq(cluster: Cluster) -> Iterator[PushCluster]:
    """A PushCluster that will be without RabbitMQ for a while."""
    with PushCluster.create(cluster, f"e2e-{secrets.token_hex(3)}", {}, slot=3) as pc:
        yield pc


@asynccontextmanager
async def away(pc: PushCluster, component: str) -> AsyncIterator[None]:
    """Take a store away inside the block. The PushCluster is paused, so that the operator does not restore it."""
    await asyncio.to_thread(pc.kubectl, "annotate", "--overwrite", f"pcl/{NAME}", "pushcluster.dev/paused=true")
    try:
        await asyncio.to_thread(_scale, pc, component, 0)
        yield
    finally:
        await asyncio.to_thread(_scale, pc, component, 1)
        await asyncio.to_thread(pc.kubectl, "annotate", f"pcl/{NAME}", "pushcluster.dev/paused-")


def _scale(pc: PushCluster, component: str, replicas: int) -> None:
    """Scale a store, and wait until that many of its pods are ready and no other is left."""
    pc.kubectl("scale", f"statefulset/{NAME}-{component}", f"--replicas={replicas}")

    def is_done() -> bool:
        pods = pc.pods(component)
        return len(pods) == replicas and all(map(is_ready, pods))

    eventually(is_done, within_s=POD_CHANGES_WITHIN_S, what=f"{component} has {replicas} pods")


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def gateways_in_service(pc: PushCluster) -> dict[str, int]:
    """Return the restarts of each gateway pod that is ready and that the Service sends clients to."""
    slices = pc.kubectl.items("endpointslices", "--selector", f"kubernetes.io/service-name={NAME}-gateway")
    served = {
        endpoint["targetRef"]["name"]
        for each in slices
        for endpoint in each.get("endpoints") or []
        if endpoint["conditions"].get("ready")
    }
    return {
        pod["metadata"]["name"]: int(pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in pc.pods("gateway")
        if is_ready(pod) and pod["metadata"]["name"] in served
    }


def stay_until_said(pc: PushCluster, gateways: dict[str, int], reason: str, within_s: float) -> str:
    """Check for AWAY_S and until Degraded has this reason that these gateways stay. Return what Degraded says."""
    started, said = time.monotonic(), ""
    while not said or time.monotonic() - started < AWAY_S:
        assert gateways_in_service(pc) == gateways
        degraded = pc.condition("Degraded")
        if not said and degraded.get("reason") == reason:
            said = str(degraded["message"])
        seconds = time.monotonic() - started
        assert said or seconds < within_s, f"after {seconds:.0f} s Degraded does not say {reason}, but {degraded}"
        time.sleep(1)
    return said


async def is_told_to_come_later(pc: PushCluster, user: str) -> None:
    """Connect once, and check that the gateway says when to come again."""
    client = await StompClient.open(pc.access.ws_url)
    token = mint(pc.access.jwt_key, user)
    await client.send("CONNECT", {"accept-version": "1.2", "host": "test", "Authorization": f"Bearer {token}"})
    error = await client.expect_error(TOLD_WITHIN_S)
    assert client.close_code == 1013
    assert int(error["retry-after-ms"]) > 0


async def wait_log(pc: PushCluster, user: str) -> None:
    """Wait until a message for the user is in the log."""
    store: redis.asyncio.Redis = redis.asyncio.from_url(pc.access.redis_url)
    log = Keys(pc.access.cluster).log(user, Destination("queue", "demo"))
    try:
        await eventually_async(lambda: store.exists(log))
    finally:
        await store.aclose()


async def publish_once_accepted(pc: PushCluster, user: str, body: str) -> None:
    """Publish, again and again until RabbitMQ takes it."""

    async def is_accepted() -> bool:
        try:
            await publish_http(pc.access, user, DESTINATION, body)
        except NotAccepted:
            await asyncio.sleep(1)
            return False
        return True

    await eventually_async(is_accepted, within_s=HEALED_WITHIN_S)


async def test_while_redis_is_away_gateways_stay_and_tell_clients_to_come_later(losing_redis: PushCluster) -> None:
    pc = losing_redis
    alice = await connect(pc.access, "alice")
    await alice.subscribe(USER_QUEUE, id="0")
    gateways = await asyncio.to_thread(gateways_in_service, pc)
    assert len(gateways) == 2

    async with away(pc, "redis"):
        watching = asyncio.create_task(
            asyncio.to_thread(stay_until_said, pc, gateways, "RedisAway", AWAY_SAID_WITHIN_S)
        )
        for _ in range(TRIES):
            await is_told_to_come_later(pc, "bob")
        for user in ("alice", "bob"):
            await publish_http(pc.access, user, DESTINATION, f"for {user} meanwhile")
        said = await watching
        await is_told_to_come_later(pc, "bob")
        for fact in ("clients cannot connect", "1013", "wait in the ingress queues", "Nothing is lost"):
            assert fact in said

    assert (await alice.next_message(within_s=HEALED_WITHIN_S)).text == "for alice meanwhile"
    bob = await _connect_once_let_in(pc, "bob")
    await bob.subscribe(USER_QUEUE, id="0")
    assert (await bob.next_message()).text == "for bob meanwhile"
    await asyncio.to_thread(pc.wait_ready)
    assert await asyncio.to_thread(gateways_in_service, pc) == gateways
    await alice.disconnect()
    await bob.disconnect()


async def _connect_once_let_in(pc: PushCluster, user: str) -> StompClient:
    """Connect, again and again while gateways say that Redis does not answer yet."""

    async def attempt() -> StompClient:
        return await connect(pc.access, user)  # StompError is an AssertionError: it is tried again

    return await eventually_async(attempt, within_s=HEALED_WITHIN_S)


async def test_while_rabbitmq_is_away_clients_get_what_the_log_has_and_the_status_says_that_pushes_are_slow(
    losing_rabbitmq: PushCluster,
) -> None:
    pc = losing_rabbitmq
    alice = await connect(pc.access, "alice")
    await alice.subscribe(USER_QUEUE, id="0")
    await publish_http(pc.access, "bob", DESTINATION, "waits for bob")
    await wait_log(pc, "bob")
    gateways = await asyncio.to_thread(gateways_in_service, pc)
    assert len(gateways) == 2

    async with away(pc, "rabbitmq"):
        watching = asyncio.create_task(
            asyncio.to_thread(stay_until_said, pc, gateways, "PushesSlow", SLOW_SAID_WITHIN_S)
        )
        bob = await connect(pc.access, "bob")
        await bob.subscribe(USER_QUEUE, id="0")
        assert (await bob.next_message()).text == "waits for bob"
        said = await watching
        for fact in (*gateways, "no connection to RabbitMQ", "within seconds", "RabbitMQ is not ready"):
            assert fact in said

    def is_no_longer_said() -> bool:
        return pc.condition("Degraded").get("reason") != "PushesSlow"

    await asyncio.to_thread(eventually, is_no_longer_said, within_s=HEALED_WITHIN_S, what="PushesSlow is gone")
    await asyncio.to_thread(pc.wait_ready)
    for user, client in (("alice", alice), ("bob", bob)):
        await publish_once_accepted(pc, user, f"for {user} afterwards")
        assert (await client.next_message(within_s=AT_ONCE_S)).text == f"for {user} afterwards"
    assert await asyncio.to_thread(gateways_in_service, pc) == gateways
    await alice.disconnect()
    await bob.disconnect()
