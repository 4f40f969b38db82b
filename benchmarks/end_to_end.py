"""Figure: from a publish to the client, through everything, in each mode, and through RabbitMQ's own web_stomp."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.breakdown import break_down
from benchmarks.measure import Latencies, ProcessTimes, rate
from benchmarks.plane import Plane, Services, running_plane
from benchmarks.processes import Child, sample, started
from benchmarks.report import Section, Table
from local_run.stores import USER, WEB_STOMP_PORT
from pushcluster_contract.routing import RoutingMode

CLIENTS: Final = 1_000
BODY_BYTES: Final = 200
BURST: Final = 1_000
OUTSTANDING: Final = 6_000
"""Published and not yet delivered: enough to keep every part busy, bounded so that nothing falls behind for good."""
DELIVERED_WITHIN_S: Final = 60.0
WEB_STOMP: Final = "web_stomp"
AIM_DELIVERIES_PER_CPU_S: Final = 5_000
BETTER_DELIVERIES_PER_CPU_S: Final = 10_000


@dataclass(frozen=True, slots=True)
class Load:
    """How long and how much."""

    clients: int = CLIENTS
    messages: int = 60_000
    steady_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """One way from publisher to client."""

    name: str
    max_per_s: float
    cpu: ProcessTimes
    """Of the run at the maximum rate."""
    messages: int
    steady_per_s: float
    latencies: Latencies
    """At half of the maximum rate."""

    @property
    def deliveries_per_cpu_s(self) -> float:
        """Per processor second of everything that belongs to the product."""
        return rate(self.messages, self.cpu.total())


async def run(services: Services, load: Load) -> Section:
    """Measure every mode and web_stomp."""
    results = [await measure_mode(services, mode, load) for mode in RoutingMode]
    results.append(await measure_web_stomp(services, load))
    return build_section(results, await profile(services, load))


async def profile(services: Services, load: Load) -> str:
    """Return where the processor time goes in the mode that the aim speaks of."""
    async with connected_plane(services, RoutingMode.GATEWAY, load, sampled=True) as (plane, clients, publisher):
        await clients.call("observe", on=True)
        await saturate(clients, publisher, load.messages // 10)
        return await break_down(plane, lambda: saturate(clients, publisher, load.messages))


def build_section(results: Sequence[Result], profiled: str) -> Section:
    """Return the figure's part of the document."""
    peer = next(result for result in results if result.name == WEB_STOMP)
    gateway = next(result for result in results if result.name == RoutingMode.GATEWAY.value)
    rows = [
        (
            result.name,
            result.max_per_s,
            result.deliveries_per_cpu_s,
            result.deliveries_per_cpu_s / peer.deliveries_per_cpu_s,
            result.steady_per_s,
            result.latencies.p50_ms,
            result.latencies.p99_ms,
        )
        for result in results
    ]
    parts = ("rabbitmq", "redis", "dispatcher", "gateway")
    cpu_rows: list[tuple[str | float, ...]] = [
        (result.name, *(1e6 * result.cpu.matching(part) / result.messages for part in parts)) for result in results
    ]
    return Section(
        title="End to end: publish to client",
        aim=(
            f"mode Gateway: at least {AIM_DELIVERIES_PER_CPU_S:,} deliveries per CPU-second of everything "
            f"(better: {BETTER_DELIVERIES_PER_CPU_S:,})"
        ),
        reached=gateway.deliveries_per_cpu_s >= AIM_DELIVERIES_PER_CPU_S,
        text=(
            f"{CLIENTS:,} clients with one subscription each, 1 dispatcher, 2 gateways, broker, Redis (`appendfsync "
            f"always`), publisher and clients on the same cores; {BODY_BYTES} B bodies, publisher confirms. The "
            "maximum rate keeps a bounded number of messages under way; latencies are taken at half of it, from the "
            "planned time of the publish. web_stomp gets transient messages on one queue a client: it has neither a "
            "log, nor resume, nor quorum queues. The last lines say where the time goes in mode Gateway, in a run of "
            "their own."
        ),
        tables=[
            Table(
                ("way", "max msg/s", "deliveries / CPU-s of all", "÷ web_stomp", "half rate msg/s", "p50 ms", "p99 ms"),
                rows,
            ),
            Table(("µs of CPU a message", "broker", "Redis", "dispatcher", "gateways"), cpu_rows),
        ],
        profile=profiled if gateway.deliveries_per_cpu_s < BETTER_DELIVERIES_PER_CPU_S else "",
    )


async def measure_mode(services: Services, mode: RoutingMode, load: Load) -> Result:
    """Measure one routing mode."""
    async with connected_plane(services, mode, load) as (plane, clients, publisher):
        return await measure_way(mode.value, clients, publisher, plane.times, load)


@asynccontextmanager
async def connected_plane(
    services: Services, mode: RoutingMode, load: Load, *, sampled: bool = False
) -> AsyncIterator[tuple[Plane, Child, Child]]:
    """Run a cluster with its clients connected and a publisher to them."""
    users = [f"user-{n}" for n in range(load.clients)]
    async with (
        running_plane(services, mode, gateways=2, sampled=sampled) as plane,
        load_generators() as (clients, publisher),
    ):
        connected = await clients.call("connect", ports=plane.ports, users=users, path="/ws", mode="gateway")
        if connected["errors"]:
            raise RuntimeError(f"clients could not connect: {connected['errors'][:3]}")
        await publisher.call("open", url=plane.amqp_url, users=users, body_bytes=BODY_BYTES)
        yield plane, clients, publisher


async def measure_web_stomp(services: Services, load: Load) -> Result:
    """Measure RabbitMQ's own STOMP over WebSocket on the same broker."""
    vhost = await services.create_vhost()
    keys = [f"demo-user{n}" for n in range(load.clients)]
    users = [f"{key} {USER} {services.password}" for key in keys]
    try:
        async with load_generators() as (clients, publisher):
            connected = await clients.call(
                "connect",
                ports=[WEB_STOMP_PORT],
                users=users,
                path="/ws",
                mode=WEB_STOMP,
                host=services.rabbitmq_host,
                vhost=vhost,
            )
            if connected["errors"]:
                raise RuntimeError(f"clients could not connect: {connected['errors'][:3]}")
            url = services.amqp_url(vhost)
            await publisher.call("open", url=url, users=keys, body_bytes=BODY_BYTES, web_stomp=True)
            return await measure_way(WEB_STOMP, clients, publisher, lambda: sample(services.pids), load)
    finally:
        await services.delete_vhost(vhost)


@asynccontextmanager
async def load_generators() -> AsyncIterator[tuple[Child, Child]]:
    """Start the processes of clients and publisher."""
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(started("benchmarks.stomp_clients", "clients"))
        publisher = await stack.enter_async_context(started("benchmarks.publisher", "publisher"))
        yield clients, publisher


async def measure_way(
    name: str, clients: Child, publisher: Child, times: Callable[[], ProcessTimes], load: Load
) -> Result:
    """Find the maximum rate, then take latencies at half of it."""
    await clients.call("observe", on=True)
    await saturate(clients, publisher, load.messages // 10)
    await clients.call("observe", on=True)
    before, begin = times(), time.monotonic()
    await saturate(clients, publisher, load.messages)
    cpu, seconds = times().since(before), time.monotonic() - begin
    max_per_s = rate(load.messages, seconds)
    latencies = await steady(clients, publisher, max_per_s / 2, load.steady_s)
    return Result(name, max_per_s, cpu, load.messages, max_per_s / 2, latencies)


async def saturate(clients: Child, publisher: Child, messages: int) -> None:
    """Publish so many, with a bounded number under way, and return once all have arrived."""
    already = (await clients.call("counts"))["stamps"]
    published = 0
    while published < messages:
        arrived = (await clients.call("counts"))["stamps"] - already
        if published - arrived < OUTSTANDING:
            await publisher.call("burst", count=BURST)
            published += BURST
        else:
            await asyncio.sleep(0.01)
    await all_arrived(clients, already + published)


async def steady(clients: Child, publisher: Child, per_s: float, seconds: float) -> Latencies:
    """Publish at a rate, and return the latencies of all messages."""
    await clients.call("observe", on=True)
    sent = await publisher.call("steady", per_s=per_s, seconds=seconds)
    await all_arrived(clients, int(sent["sent"]))
    return Latencies.of(await clients.call("latencies"))


async def all_arrived(clients: Child, stamps: int) -> None:
    """Return once so many messages have arrived; raises RuntimeError when they do not, or a connection was lost."""
    deadline = time.monotonic() + DELIVERED_WITHIN_S
    while (counts := await clients.call("counts"))["stamps"] < stamps:
        if counts["failed"]:
            raise RuntimeError(f"{counts['failed']:,} clients lost their connection")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{counts['stamps']:,} of {stamps:,} messages arrived in {DELIVERED_WITHIN_S:.0f} s")
        await asyncio.sleep(0.02)
