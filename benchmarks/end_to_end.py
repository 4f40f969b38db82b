"""Figure: the whole way from a publish to the client, in each mode and with RabbitMQ's own web_stomp."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.breakdown import break_down
from benchmarks.connecting import connect_clients
from benchmarks.measure import Latencies, ProcessTimes, rate
from benchmarks.plane import Api, Plane, Services, running_plane
from benchmarks.processes import Child, sample, started
from benchmarks.report import Section, Table
from local_run.stores import USER, WEB_STOMP_PORT
from pushcluster_contract.routing import RoutingMode

CLIENTS: Final = 1_000
BODY_BYTES: Final = 200
BURST: Final = 1_000
OUTSTANDING: Final = 6_000
"""Messages that are published and not yet delivered.

That is enough to keep every part busy, and few enough that nothing falls behind for good.
"""
DELIVERED_WITHIN_S: Final = 60.0
WEB_STOMP: Final = "web_stomp"
AIM_DELIVERIES_PER_CPU_S: Final = 5_000
BETTER_DELIVERIES_PER_CPU_S: Final = 10_000


@dataclass(frozen=True, slots=True)
class Load:
    """How many clients and messages, and for how long."""

    clients: int = CLIENTS
    messages: int = 60_000
    steady_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one way from publisher to client took."""

    name: str
    max_per_s: float
    cpu: ProcessTimes
    """Processor time of the run at the maximum rate."""
    messages: int
    steady_per_s: float
    latencies: Latencies
    """Taken at half of the maximum rate."""

    @property
    def deliveries_per_cpu_s(self) -> float:
        """Deliveries per processor second of everything that belongs to the product."""
        return rate(self.messages, self.cpu.total())


async def run(services: Services, load: Load) -> Section:
    """Measure every mode and web_stomp."""
    results = [await measure_mode(services, mode, load) for mode in RoutingMode]
    results.append(await measure_web_stomp(services, load))
    return build_section(results, await profile(services, load))


async def profile(services: Services, load: Load) -> str:
    """Return where the processor time goes in mode Gateway, for which the aim is set."""
    async with connected_plane(services, RoutingMode.GATEWAY, load, launcher="benchmarks.sampled") as (
        plane,
        clients,
        publisher,
    ):
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
            f"{CLIENTS:,} clients have one subscription each. One dispatcher, 2 gateways, the broker, Redis "
            "(`appendfsync always`), the publisher and the clients share the same cores. Bodies have "
            f"{BODY_BYTES} B, and publisher confirms are on.\n\n"
            "The maximum rate is measured with a bounded number of messages under way. Latencies are taken at half of "
            "that rate, from the planned time of the publish. At such rates, copies are joined in mode Session too. "
            "web_stomp gets transient messages on one queue for each client; it has no log, no resume and no quorum "
            "queues. The last lines come from a run of their own, and say where the time goes in mode Gateway."
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
    services: Services,
    mode: RoutingMode,
    load: Load,
    *,
    launcher: str = "",
    api: Api | None = None,
    heart_beat_s: int = 0,
) -> AsyncIterator[tuple[Plane, Child, Child]]:
    """Run a cluster with connected clients and a publisher.

    Without heart-beats, gateways close the clients after less than a minute, because these answer no pings.
    """
    users = [f"user-{n}" for n in range(load.clients)]
    async with (
        running_plane(services, mode, gateways=2, launcher=launcher, api=api) as plane,
        load_generators() as (clients, publisher),
    ):
        await clients.call("beat", every_s=heart_beat_s)
        await connect_clients(clients, plane.ports, users)
        await plane.wait_own_queues(len(users))
        await publisher.call("open", url=plane.amqp_url, users=users, body_bytes=BODY_BYTES)
        yield plane, clients, publisher


async def measure_web_stomp(services: Services, load: Load) -> Result:
    """Measure RabbitMQ's own STOMP over WebSocket on the same broker."""
    vhost = await services.create_vhost()
    keys = [f"demo-user{n}" for n in range(load.clients)]
    users = [f"{key} {USER} {services.password}" for key in keys]
    try:
        async with load_generators() as (clients, publisher):
            await connect_clients(
                clients, [WEB_STOMP_PORT], users, mode=WEB_STOMP, host=services.rabbitmq_host, vhost=vhost
            )
            url = services.amqp_url(vhost)
            await publisher.call("open", url=url, users=keys, body_bytes=BODY_BYTES, web_stomp=True)
            return await measure_way(WEB_STOMP, clients, publisher, lambda: sample(services.pids), load)
    finally:
        await services.delete_vhost(vhost)


@asynccontextmanager
async def load_generators() -> AsyncIterator[tuple[Child, Child]]:
    """Start the two processes for the clients and the publisher."""
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
    """Publish this many messages, with a bounded number under way. Return once all have arrived."""
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
    """Publish at this rate. Return the latencies of all messages."""
    await clients.call("observe", on=True)
    sent = await publisher.call("steady", per_s=per_s, seconds=seconds)
    await all_arrived(clients, int(sent["sent"]))
    return Latencies.of(await clients.call("latencies"))


async def all_arrived(clients: Child, stamps: int) -> None:
    """Return once this many messages have arrived.

    Raises RuntimeError if they do not arrive in time, or if a connection was lost.
    """
    deadline = time.monotonic() + DELIVERED_WITHIN_S
    while (counts := await clients.call("counts"))["stamps"] < stamps:
        if counts["failed"]:
            raise RuntimeError(f"{counts['failed']:,} clients lost their connection")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{counts['stamps']:,} of {stamps:,} messages arrived in {DELIVERED_WITHIN_S:.0f} s")
        await asyncio.sleep(0.02)
