"""What idle sessions with heart-beats cost: one gateway, or one node of Centrifuge."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from benchmarks.centrifuge_nodes import Setting, running_nodes
from benchmarks.centrifuge_protocol import PATH
from benchmarks.connecting import connect_clients
from benchmarks.measure import ProcessTimes, median
from benchmarks.peer_report import HEART_BEAT_S, Idle, Load
from benchmarks.plane import Services, running_plane
from benchmarks.processes import Child, started
from pushcluster_contract.routing import RoutingMode

SETTLE_S: Final = HEART_BEAT_S + 5.0
"""After this every client is in its turn of heart-beats, and what a connect leaves to do is done."""
MIN_FRAME_BYTES: Final = 3
"""A heart-beat of STOMP in a WebSocket frame. A ping of Centrifuge has one more."""
MIN_PART: Final = 0.5
"""At least this part of the expected heart-beats must arrive. They do not come evenly, and a round may be short."""


async def measure_gateway(services: Services, mode: RoutingMode, load: Load, *, name: str) -> Idle:
    """Measure a gateway. Clients send heart-beats too."""
    async with (
        running_plane(services, mode, gateways=1) as plane,
        started("benchmarks.stomp_clients", "clients") as clients,
    ):
        await _connect(clients, plane.ports, load, path="/ws", mode="gateway")
        await plane.wait_own_queues(load.beating_sessions)
        return await _watch(clients, plane.times, load, own=plane.gateways[0].name, name=name)


async def measure_node(services: Services, setting: Setting, load: Load, *, name: str) -> Idle:
    """Measure a node of the peer, which pings as its setting says. Clients answer."""
    async with (
        running_nodes(services, setting, nodes=1) as nodes,
        started("benchmarks.centrifuge_clients", "clients") as clients,
    ):
        await _connect(clients, nodes.ports, load, path=PATH, mode="")
        return await _watch(clients, nodes.times, load, own=next(iter(nodes.programs)), name=name)


async def _connect(clients: Child, ports: list[int], load: Load, *, path: str, mode: str) -> None:
    await clients.call("beat", every_s=HEART_BEAT_S)
    users = [f"user-{n}" for n in range(load.beating_sessions)]
    await connect_clients(clients, ports, users, path=path, mode=mode)


async def _watch(clients: Child, times: Callable[[], ProcessTimes], load: Load, *, own: str, name: str) -> Idle:
    """Return the medians of the rounds. Raises RuntimeError if clients were lost, or got no heart-beats."""
    await asyncio.sleep(SETTLE_S)
    own_percent, all_percent = [], []
    for _ in range(load.watch_rounds):
        received = (await clients.call("counts"))["bytes"]
        before, begin = times(), time.monotonic()
        await asyncio.sleep(load.idle_s)
        used, seconds = times().since(before), time.monotonic() - begin
        counts = await clients.call("counts")
        check_alive(counts["failed"], counts["bytes"] - received, load)
        own_percent.append(100 * used.total([own]) / seconds)
        all_percent.append(100 * used.total() / seconds)
    return Idle(name, median(own_percent), median(all_percent))


def check_alive(failed: int, received_bytes: int, load: Load) -> None:
    """Raise RuntimeError if clients lost their connection, or if too few heart-beats arrived in a round."""
    if failed:
        raise RuntimeError(f"{failed:,} of {load.beating_sessions:,} idle clients lost their connection")
    expected = load.beating_sessions * load.idle_s / HEART_BEAT_S * MIN_FRAME_BYTES
    if received_bytes < MIN_PART * expected:
        raise RuntimeError(f"{received_bytes:,} bytes of heart-beats arrived, and {expected:,.0f} were expected")
