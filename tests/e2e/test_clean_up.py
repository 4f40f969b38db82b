"""Session entries leave Redis whichever way a gateway pod ends: the heart of the operator."""

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import redis.asyncio

from demo.install import OPERATOR, OPERATOR_NAMESPACE
from demo.kubectl import run
from demo.publish import publish_http
from demo.story import connect, connect_elsewhere
from pushcluster_contract.keys import Keys, encode_member
from pushcluster_contract.session_entry import SessionEntry
from tests.e2e.metrics import read_operator_metric
from tests.e2e.push_cluster import NAME, PushCluster, eventually
from tests.e2e.report import record_clean_up
from tests.support.stomp_client import StompClient
from tests.support.waiting import eventually as eventually_async

BOUND_S = 5
BOUND_AFTER_OPERATOR_START_S = 30
GONE_WITHIN_S = 300
"""Until a test gives up, with all that it waits for before the entry may go; the bounds are checked afterwards."""
USER_QUEUE = "/user/queue/demo"


@dataclass(slots=True)
class Victim:
    """A user with a session on a gateway pod that is about to end."""

    pc: PushCluster
    client: StompClient
    user: str
    store: redis.asyncio.Redis

    @property
    def sessions_key(self) -> str:
        return Keys(self.pc.access.cluster).sessions(self.user)

    @property
    def pod(self) -> str:
        return self.client.gateway

    async def entry(self) -> bytes | None:
        return cast("bytes | None", await self.store.hget(self.sessions_key, self.client.session))

    async def moment_gone(self) -> float:
        """Return the moment (monotonic) at which the entry had left Redis.

        Begin before the pod ends: what makes it end may return long after that.
        """

        async def is_gone() -> bool:
            assert await self.entry() is None, f"{self.client.session} still stands in Redis"
            return True

        await eventually_async(is_gone, within_s=GONE_WITHIN_S)
        return time.monotonic()


async def first_gone(*victims: Victim) -> tuple[str, float]:
    """Return the pod of the first victim whose entry has left Redis, and the moment (monotonic)."""

    async def pod_of_gone() -> str:
        for victim in victims:
            if await victim.entry() is None:
                return victim.pod
        raise AssertionError("all entries still stand in Redis")

    return await eventually_async(pod_of_gone, within_s=GONE_WITHIN_S), time.monotonic()


@pytest.fixture
async def victim(shared: PushCluster, request: pytest.FixtureRequest) -> AsyncIterator[Victim]:
    shared.wait_ready()
    user = f"victim-{zlib.crc32(request.node.name.encode())}"
    client = await connect(shared.access, user)
    await client.subscribe(USER_QUEUE, id="0")
    store: redis.asyncio.Redis = redis.asyncio.from_url(shared.access.redis_url)
    victim = Victim(shared, client, user, store)
    assert await victim.entry() is not None
    yield victim
    await store.aclose()
    await client.close()
    await asyncio.to_thread(shared.wait_ready)


def pod_gone(pc: PushCluster, pod: str) -> float:
    """Wait until the pod object is gone; returns the moment."""

    def gone() -> bool:
        return all(item["metadata"]["name"] != pod for item in pc.pods("gateway"))

    eventually(gone, within_s=120, what=f"pod {pod} is gone")
    return time.monotonic()


def graceful_delete(victim: Victim) -> float:
    victim.pc.kubectl("delete", "pod", victim.pod, "--wait=false")
    return pod_gone(victim.pc, victim.pod)


def force_delete(victim: Victim) -> float:
    victim.pc.kubectl("delete", "pod", victim.pod, "--grace-period=0", "--force")
    return pod_gone(victim.pc, victim.pod)


def roll_out(victim: Victim) -> float:
    victim.pc.kubectl("rollout", "restart", f"deployment/{NAME}-gateway")
    return pod_gone(victim.pc, victim.pod)


def evict(victim: Victim) -> float:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": victim.pod, "namespace": victim.pc.kubectl.namespace},
    }
    path = f"/api/v1/namespaces/{victim.pc.kubectl.namespace}/pods/{victim.pod}/eviction"
    victim.pc.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
    return pod_gone(victim.pc, victim.pod)


def signal_process(victim: Victim, signal: str) -> None:
    """Signal the gateway's process from the node: PID 1 ignores SIGKILL and SIGSTOP that come from inside."""
    pod = _pod(victim)
    container_id = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    node = pod["spec"]["nodeName"]
    run(["docker", "exec", node, "ctr", "-n", "k8s.io", "task", "kill", "--signal", signal, container_id], within_s=20)


def kill_process(victim: Victim) -> float:
    """`kill -9`: the container restarts in the same pod, after as long as the kubelet needs for that."""
    restarts = _pod(victim)["status"]["containerStatuses"][0]["restartCount"]
    signal_process(victim, "SIGKILL")

    def restarted() -> bool:
        return bool(_pod(victim)["status"]["containerStatuses"][0]["restartCount"] == restarts + 1)

    eventually(restarted, within_s=120, what="the container restarts in the same pod")
    return time.monotonic()


def delete_frozen(victim: Victim) -> float:
    """Delete by force a pod whose process is stopped, so that it cannot clean up after itself."""
    signal_process(victim, "SIGSTOP")
    return force_delete(victim)


def _pod(victim: Victim) -> Any:
    return next(item for item in victim.pc.pods("gateway") if item["metadata"]["name"] == victim.pod)


@pytest.mark.parametrize("end", [graceful_delete, force_delete, delete_frozen, kill_process, roll_out, evict])
async def test_the_entry_leaves_redis(victim: Victim, end: Callable[[Victim], float]) -> None:
    going = asyncio.create_task(victim.moment_gone())
    since = await asyncio.to_thread(end, victim)
    seconds = max(0.0, await going - since)
    record_clean_up(end.__name__.replace("_", " "), seconds, bound_s=BOUND_S)
    assert seconds <= BOUND_S


async def test_the_entry_leaves_redis_after_a_scale_down(victim: Victim) -> None:
    kubectl = victim.pc.kubectl
    other_client = await connect_elsewhere(victim.pc.access, "scaled", victim.pod)
    other = replace(victim, client=other_client, user="scaled")
    assert await other.entry() is not None
    going = asyncio.create_task(first_gone(victim, other))
    try:
        await asyncio.to_thread(kubectl, "scale", f"pcl/{NAME}", "--replicas=1")

        def one_left() -> str:
            alive = [p["metadata"]["name"] for p in victim.pc.pods("gateway")]
            return alive[0] if len(alive) == 1 else ""

        left = await asyncio.to_thread(eventually, one_left, within_s=120, what="one gateway pod is left")
        since = time.monotonic()
        assert left in {victim.pod, other.pod}
        removed, moment = await going
        assert removed != left
        seconds = max(0.0, moment - since)
        record_clean_up("scale-down", seconds, bound_s=BOUND_S)
        assert seconds <= BOUND_S
    finally:
        await asyncio.to_thread(kubectl, "scale", f"pcl/{NAME}", "--replicas=2")
        await other_client.close()


async def test_the_entry_leaves_redis_when_the_operator_was_down_meanwhile(victim: Victim) -> None:
    operator = victim.pc.host.kubectl(OPERATOR_NAMESPACE)
    await asyncio.to_thread(_scale_operator, operator, 0)
    try:
        await asyncio.to_thread(delete_frozen, victim)
        assert await victim.entry() is not None, "without the operator nobody should have removed the entry"
    finally:
        going = asyncio.create_task(victim.moment_gone())
        started = time.monotonic()
        await asyncio.to_thread(_scale_operator, operator, 1)
    seconds = await going - started
    record_clean_up("operator down meanwhile (from its start)", seconds, bound_s=BOUND_AFTER_OPERATOR_START_S)
    assert seconds <= BOUND_AFTER_OPERATOR_START_S


async def test_a_session_that_reconnected_elsewhere_is_never_removed(victim: Victim) -> None:
    """The race: the user is back on another gateway while the old pod's entries are being removed.

    The dead process's own list names the new session too, as if both had written at once: the fence has to hold.
    """
    again = await connect_elsewhere(victim.pc.access, victim.user, victim.pod)
    await again.subscribe(USER_QUEUE, id="0")

    keys = Keys(victim.pc.access.cluster)
    dead = SessionEntry.parse((await victim.entry() or b"").decode()).incarnation
    await victim.store.sadd(keys.gateway(dead), encode_member(victim.user, again.session))

    late_task = asyncio.create_task(connect_elsewhere(victim.pc.access, victim.user, victim.pod))
    await asyncio.to_thread(delete_frozen, victim)
    await victim.moment_gone()
    late = await late_task

    async def list_is_empty() -> bool:
        return not await victim.store.exists(keys.gateway(dead))

    await eventually_async(list_is_empty)
    held = {str(sid, "ascii") for sid in cast("list[bytes]", await victim.store.hkeys(victim.sessions_key))}
    assert held == {again.session, late.session}
    await publish_http(victim.pc.access, victim.user, "/queue/demo", "still here")
    assert (await again.next_message()).body == b"still here"
    await again.disconnect()
    await late.disconnect()


async def test_the_number_removed_is_in_status_event_and_metric(victim: Victim) -> None:
    before, removals = _removed_total(victim.pc), await asyncio.to_thread(_removal_events, victim.pc)
    metric = await asyncio.to_thread(_removal_metric, victim.pc)
    await asyncio.to_thread(delete_frozen, victim)
    await victim.moment_gone()

    def counted() -> bool:
        return (
            _removed_total(victim.pc) > before
            and _removal_events(victim.pc) > removals
            and _removal_metric(victim.pc) > metric
        )

    await asyncio.to_thread(eventually, counted, within_s=120, what="status, Events and metric have counted it")


def _removal_events(pc: PushCluster) -> int:
    events = [event for event in pc.kubectl.items("events") if event["reason"] == "StaleSessionsRemoved"]
    return sum(event.get("count") or 1 for event in events)


def _removal_metric(pc: PushCluster) -> float:
    name = "pushcluster_sessions_removed_total"
    return read_operator_metric(pc.host, name, namespace=pc.kubectl.namespace)


def _removed_total(pc: PushCluster) -> int:
    status: dict[str, Any] = pc.kubectl.get("pcl", NAME)["status"]
    return int(status["sessions"].get("removedTotal", 0))


def _scale_operator(operator: Any, replicas: int) -> None:
    operator("scale", f"deployment/{OPERATOR}", f"--replicas={replicas}")
    if replicas:
        operator("rollout", "status", f"deployment/{OPERATOR}", "--timeout=120s", within_s=130)
    else:
        eventually(lambda: not operator.items("pods"), within_s=120, what="the operator is gone")
