"""Figure: where the time between publish and client goes at an everyday rate, hop by hop, and what the parts need."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from benchmarks import end_to_end
from benchmarks.breakdown import read_dump, start_dump
from benchmarks.budget_report import CONSUMED, PER_S, Buckets, Budget, Figure, Load, build_section
from benchmarks.end_to_end import BODY_BYTES, all_arrived, connected_plane
from benchmarks.measure import median
from benchmarks.peer_report import Parts
from benchmarks.plane import Plane, Program, Services
from benchmarks.processes import Child, started
from benchmarks.report import Section
from pushcluster_contract.routing import RoutingMode

LAUNCHER: Final = "benchmarks.arrivals"
WARM_S: Final = 1.0
HEART_BEAT_S: Final = 30
"""Seldom enough to change nothing: 1,000 clients send 33 a second."""


async def run(services: Services, load: Load) -> Section:
    """Measure every mode, and the parts between the rounds."""
    alone: dict[str, list[float]] = {"quorum": [], "append": [], "transient": [], "script": []}
    vhost = await services.create_vhost()
    try:
        async with started("benchmarks.parts", "parts") as parts:
            budgets = [await measure_mode(services, mode, load, parts, vhost, alone) for mode in RoutingMode]
    finally:
        await services.delete_vhost(vhost)
    found = {name: 1e3 * median(seconds) for name, seconds in alone.items()}
    sum_of = Parts(quorum_ms=found["quorum"], append_ms=found["append"], transient_ms=found["transient"])
    return build_section(budgets, sum_of, found["script"], load)


async def measure_mode(
    services: Services, mode: RoutingMode, load: Load, parts: Child, vhost: str, alone: Mapping[str, list[float]]
) -> Budget:
    """Measure one mode. `alone` gets the medians of the parts, in seconds."""
    whole: list[float] = []
    medians_ms: list[float] = []
    clients_only = end_to_end.Load(clients=load.clients)
    async with connected_plane(services, mode, clients_only, launcher=LAUNCHER, heart_beat_s=HEART_BEAT_S) as (
        plane,
        clients,
        publisher,
    ):
        await publish(clients, publisher, WARM_S)
        before = await read_hops(plane)
        for program in plane.dispatchers:
            start_dump(program)
        for _ in range(load.rounds):
            await measure_parts(services, load, parts, vhost, alone)
            seconds = await publish(clients, publisher, load.seconds)
            whole += seconds
            medians_ms.append(1e3 * median(seconds))
        consumed = [age for program in plane.dispatchers for age in await read_dump(program)]
        hops = {name: each.plus(before[name], times=-1).figure() for name, each in (await read_hops(plane)).items()}
    return Budget(mode.value, {CONSUMED: Figure.of(consumed), **hops}, Figure.of(whole), median(medians_ms))


async def measure_parts(
    services: Services, load: Load, parts: Child, vhost: str, alone: Mapping[str, list[float]]
) -> None:
    """Measure one round of each part."""
    for name, medians in alone.items():
        url = services.redis_url if name in {"append", "script"} else services.amqp_url(vhost)
        count = int(PER_S * load.seconds)
        medians.append(median(await parts.call(name, url=url, per_s=PER_S, count=count, body_bytes=BODY_BYTES)))


async def publish(clients: Child, publisher: Child, seconds: float) -> list[float]:
    """Publish at the rate, and return the seconds that each message took."""
    await clients.call("observe", on=True)
    sent = await publisher.call("steady", per_s=PER_S, seconds=seconds)
    await all_arrived(clients, int(sent["sent"]))
    found: list[Any] = await clients.call("latencies")
    return found


async def read_hops(plane: Plane) -> dict[str, Buckets]:
    """Return the histograms of all hops, those of several gateways together."""
    found = await _read(plane.dispatchers, "pushcluster_dispatcher_hop_seconds")
    return {**found, **await _read(plane.gateways, "pushcluster_gateway_hop_seconds")}


async def _read(programs: Iterable[Program], name: str) -> dict[str, Buckets]:
    found: dict[str, Buckets] = {}
    for program in programs:
        for hop, buckets in Buckets.parse(await program.metrics(), name).items():
            found[hop] = found[hop].plus(buckets) if hop in found else buckets
    return found
