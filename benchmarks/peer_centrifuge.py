"""Figure: cost and latency at everyday rates and at the maximum, beside Centrifuge, the library of Centrifugo."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks import end_to_end, gateway_memory, peer_idle
from benchmarks.centrifuge_nodes import SOURCES, Setting, build_program, parse_version, running_nodes
from benchmarks.centrifuge_protocol import PATH
from benchmarks.connecting import connect_clients
from benchmarks.end_to_end import BODY_BYTES, connected_plane, saturate, steady
from benchmarks.measure import Latencies, ProcessTimes, median, rate
from benchmarks.peer_report import (
    BATCH,
    HEART_BEAT_S,
    HTTP_CONNECTIONS,
    NODES,
    STALL_PER_S,
    Idle,
    Load,
    Maximum,
    Parts,
    Result,
    Round,
    Steady,
    build_section,
)
from benchmarks.plane import Api, Services
from benchmarks.processes import Child, resident_bytes, started
from benchmarks.report import Section
from pushcluster_contract.routing import RoutingMode

HISTORY: Final = "Centrifuge, history, durable"
MODES: Final = (RoutingMode.GATEWAY, RoutingMode.SESSION)
EVERYDAY_PER_S: Final = 1_000.0
QUIET_PER_S: Final = 100.0
TARGET: Final = "/publish/{user}"
BATCH_TARGET: Final = "/batch"
PEERS: Final = {
    HISTORY: Setting(history=True),
    "Centrifuge, nothing kept": Setting(history=False),
}
LEAN: Final = "Centrifuge, history, options that save memory"
API_TARGET: Final = "/v1/users/{user}/messages?destination=/queue/demo"
SHORT: Final = Load()
LONG: Final = Load(messages=20_000, quiet_s=15.0, steady_s=8.0, sessions=10_000, idle_s=60.0, stall_s=60.0)


@dataclass(frozen=True, slots=True)
class Way:
    """Connected clients, a publisher, and what is counted between them."""

    clients: Child
    publisher: Child
    times: Callable[[], ProcessTimes]


async def run(services: Services, load: Load) -> Section:
    """Measure two modes and the peer in two settings, one after the other. Then measure all memory, side by side."""
    await asyncio.to_thread(build_program)  # so that nothing is compiled between the measurements
    results: list[Result] = []
    for mode in MODES:
        results += await measure_mode(services, mode, load)
    for name, setting in PEERS.items():
        results += await measure_peer(services, name, setting, load)
    parts, idle = await measure_parts(services, load), await measure_idle(services, load)
    session_bytes = await measure_memory(services, load)
    version = parse_version((SOURCES / "go.mod").read_text())
    return build_section([*results, Result(LEAN)], session_bytes, parts, idle, load, version=version)


def name_mode(mode: RoutingMode) -> str:
    """Return the name of our line."""
    return f"mode {mode.value}"


async def measure_mode(services: Services, mode: RoutingMode, load: Load) -> list[Result]:
    """Measure one of our modes, with messages over AMQP and over HTTP."""
    name, api = name_mode(mode), Api.fresh()
    async with (
        connected_plane(services, mode, end_to_end.Load(clients=load.clients), api=api) as (plane, clients, publisher),
        started("benchmarks.http_publisher", "publisher over HTTP") as http,
    ):
        result = await measure_way(name, Way(clients, publisher, plane.times), load)
        over_http = Way(clients, http, plane.times)
        headers = {"Authorization": f"Bearer {api.key}"}
        await open_http(http, [api.port], load, target=API_TARGET, headers=headers)
        await steady(clients, http, EVERYDAY_PER_S, 1.0)  # the first requests
        everyday = await measure_rate(over_http, EVERYDAY_PER_S, load.steady_s, load.rounds)
        quiet = await measure_rate(over_http, QUIET_PER_S, load.quiet_s, load.rounds)
    return [
        replace(result, aimed=True),
        Result(f"{name}, published over HTTP", everyday=everyday, quiet=quiet),
    ]


async def measure_peer(services: Services, name: str, setting: Setting, load: Load) -> list[Result]:
    """Measure the peer in one setting, with one message a request and at the maximum with several too."""
    async with connected_nodes(services, setting, load) as (way, ports):
        await open_http(way.publisher, ports, load, target=TARGET)
        result = await measure_way(name, way, load)
        await open_http(way.publisher, ports, load, target=BATCH_TARGET, batch=BATCH)
        batched = await measure_maximum(way, load)
    return [result, Result(f"{name}, {BATCH} messages a request", batched)]


@asynccontextmanager
async def connected_nodes(services: Services, setting: Setting, load: Load) -> AsyncIterator[tuple[Way, list[int]]]:
    """Run the peer's nodes with connected clients. Yield them with a publisher, and the nodes' ports."""
    async with (
        running_nodes(services, setting, nodes=NODES) as nodes,
        started("benchmarks.centrifuge_clients", "clients") as clients,
        started("benchmarks.http_publisher", "publisher") as publisher,
    ):
        await connect_to_peer(clients, nodes.ports, range(load.clients))
        yield Way(clients, publisher, nodes.times), nodes.ports


async def connect_to_peer(clients: Child, ports: list[int], numbers: range) -> None:
    """Connect the clients of these users to the peer. Raises RuntimeError if one could not connect."""
    await connect_clients(clients, ports, [f"user-{n}" for n in numbers], path=PATH, mode="")


async def open_http(
    publisher: Child,
    ports: list[int],
    load: Load,
    *,
    target: str,
    headers: Mapping[str, str] | None = None,
    batch: int = 0,
) -> None:
    """Let the publisher over HTTP connect to these ports."""
    await publisher.call(
        "open",
        ports=ports,
        users=[f"user-{n}" for n in range(load.clients)],
        body_bytes=BODY_BYTES,
        target=target,
        headers=headers or {},
        connections=HTTP_CONNECTIONS,
        batch=batch,
    )


async def measure_way(name: str, way: Way, load: Load) -> Result:
    """Return the maximum, and the medians at half of it and at fixed rates."""
    maximum = await measure_maximum(way, load)
    half = await measure_rate(way, maximum.per_s / 2, load.steady_s, load.rounds)
    everyday = await measure_rate(way, EVERYDAY_PER_S, load.steady_s, load.rounds)
    quiet = await measure_rate(way, QUIET_PER_S, load.quiet_s, load.rounds)
    stall = await measure_rate(way, STALL_PER_S, load.stall_s, load.watch_rounds)
    return Result(name, maximum, everyday, quiet, half, stall)


async def measure_maximum(way: Way, load: Load) -> Maximum:
    """Publish as much as is delivered, after a round that is not counted."""
    rates, per_cpu_s = [], []
    for number in range(load.rounds + 1):
        await way.clients.call("observe", on=True)
        cpu_s, seconds = await _count(way, lambda: saturate(way.clients, way.publisher, load.messages))
        if number:
            rates.append(rate(load.messages, seconds))
            per_cpu_s.append(rate(load.messages, cpu_s))
    return Maximum(median(rates), median(per_cpu_s))


async def measure_rate(way: Way, per_s: float, seconds: float, rounds: int) -> Steady:
    """Publish at a rate."""
    found = []
    for _ in range(rounds):
        latencies: list[Latencies] = []

        async def publish(into: list[Latencies] = latencies) -> None:
            into.append(await steady(way.clients, way.publisher, per_s, seconds))

        cpu_s, _seconds = await _count(way, publish)
        found.append(Round(latencies[0].count, cpu_s, latencies[0]))
    return Steady.of(found)


async def _count(way: Way, work: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Return the processor seconds of everything, and the seconds, that this work took."""
    loop = asyncio.get_running_loop()
    before, begin = way.times(), loop.time()
    await work()
    return way.times().since(before).total(), loop.time() - begin


async def measure_parts(services: Services, load: Load) -> Parts:
    """Return the medians of what each message has to pass, each measured alone."""
    vhost = await services.create_vhost()
    urls = {"quorum": services.amqp_url(vhost), "append": services.redis_url, "transient": services.amqp_url(vhost)}
    found: dict[str, list[float]] = {name: [] for name in urls}
    try:
        async with started("benchmarks.parts", "parts") as child:
            for _ in range(load.rounds):
                for name, url in urls.items():
                    count = int(QUIET_PER_S * load.quiet_s)
                    seconds = await child.call(name, url=url, per_s=QUIET_PER_S, count=count, body_bytes=BODY_BYTES)
                    found[name].append(1e3 * median(seconds))
    finally:
        await services.delete_vhost(vhost)
    return Parts(**{f"{name}_ms": median(rounds) for name, rounds in found.items()})


async def measure_idle(services: Services, load: Load) -> list[Idle]:
    """Return what idle sessions with heart-beats cost: in our modes, then in the peer."""
    found = [await peer_idle.measure_gateway(services, mode, load, name=name_mode(mode)) for mode in MODES]
    setting = replace(PEERS[HISTORY], ping_s=HEART_BEAT_S)
    return [*found, await peer_idle.measure_node(services, setting, load, name=HISTORY)]


async def measure_memory(services: Services, load: Load) -> dict[str, float]:
    """Return the bytes of an idle session by the name of its line. Processor time does not matter here."""

    async def ours(mode: RoutingMode) -> tuple[str, float]:
        return name_mode(mode), (await gateway_memory.measure(services, mode, load.sessions)).bytes_a_session

    async def theirs(name: str, setting: Setting) -> tuple[str, float]:
        return name, await measure_peer_memory(services, setting, load.sessions)

    settings = {**PEERS, LEAN: Setting(history=True, lean=True)}
    return dict(await asyncio.gather(*map(ours, MODES), *(theirs(*each) for each in settings.items())))


async def measure_peer_memory(services: Services, setting: Setting, sessions: int) -> float:
    """Return the bytes a session, measured as those of our gateway."""
    async with (
        running_nodes(services, setting, nodes=1) as nodes,
        started("benchmarks.centrifuge_clients", "clients") as clients,
    ):
        (node,) = nodes.programs.values()
        before, first = 0, 0
        for count in (gateway_memory.WARM_SESSIONS, sessions):
            before = resident_bytes(node.pid)
            await connect_to_peer(clients, nodes.ports, range(first, first + count))
            await asyncio.sleep(gateway_memory.SETTLE_S)
            first += count
        return (resident_bytes(node.pid) - before) / sessions
