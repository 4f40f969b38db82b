"""Figure: many clients come back at once, with the limit of handshakes on, and what those feel who never left."""

import asyncio
from dataclasses import dataclass
from typing import Final

from benchmarks.end_to_end import BODY_BYTES, load_generators, steady
from benchmarks.measure import Latencies, ProcessTimes
from benchmarks.plane import Plane, Services, running_plane
from benchmarks.processes import Child, started
from benchmarks.report import Section, Table
from pushcluster_contract.routing import RoutingMode

AIM_TIMES: Final = 1.5
"""How much longer than the limit allows it may take until all are back."""
EXTRA_S: Final = 4.0
"""Those who never left are observed so much longer than the limit needs for the herd."""
QUIET_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """How many clients come at once, and how many were there before."""

    herd: int = 10_000
    stay: int = 1_000
    handshakes_per_s: int = 500
    """The limit; the default of `spec.gateway.handshakesPerSecond`."""
    per_s: float = 500.0
    """Pushes a second to all who stay."""

    @property
    def least_s(self) -> float:
        """How long the limit lets the herd wait: a second of the rate comes in at once."""
        return max(1.0, self.herd / self.handshakes_per_s - 1)


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured."""

    quiet: Latencies
    during: Latencies
    seconds: float
    """Until all are back."""
    attempts: int
    cpu: ProcessTimes
    """Of the product, while the herd came."""


async def run(services: Services, load: Load) -> Section:
    """Measure in mode Gateway with one gateway: modes differ in what stands behind it."""
    stay = [f"user-{n}" for n in range(load.stay)]
    async with (
        running_plane(services, RoutingMode.GATEWAY, gateways=1, handshakes_per_s=load.handshakes_per_s) as plane,
        load_generators() as (clients, publisher),
        started("benchmarks.stomp_clients", "herd") as herd,
    ):
        await clients.call("herd", port=plane.ports[0], users=stay)
        await publisher.call("open", url=plane.amqp_url, users=stay, body_bytes=BODY_BYTES)
        await steady(clients, publisher, load.per_s, 1.0)  # warms everything up
        quiet = await steady(clients, publisher, load.per_s, QUIET_S)
        return build_section(await _come_back(plane, herd, clients, publisher, quiet, load), load)


async def _come_back(
    plane: Plane, herd: Child, clients: Child, publisher: Child, quiet: Latencies, load: Load
) -> Found:
    before = plane.times()
    users = [f"herd-{n}" for n in range(load.herd)]
    coming = asyncio.create_task(herd.call("herd", port=plane.ports[0], users=users))
    during = await steady(clients, publisher, load.per_s, load.least_s + EXTRA_S)
    answer = await coming
    return Found(quiet, during, answer["seconds"], answer["attempts"], plane.times().since(before))


def build_section(found: Found, load: Load) -> Section:
    """Return the figure's part of the document."""
    rows = [
        (name, each.p50_ms, each.p99_ms, each.max_ms)
        for name, each in (("nobody comes", found.quiet), ("the herd comes", found.during))
    ]
    return Section(
        title="A herd",
        aim=(
            f"{load.herd:,} clients at once are back within {AIM_TIMES} times what the limit of "
            f"{load.handshakes_per_s} handshakes a second needs, with one attempt each"
        ),
        reached=found.seconds <= AIM_TIMES * load.least_s and found.attempts == load.herd,
        text=(
            f"{load.herd:,} clients connect to one gateway at once. One that fails tries again after 1 s, and waits "
            "twice as long each time, up to a minute: stompjs' exponential reconnect, which has no jitter. All were "
            f"back after {found.seconds:.1f} s and {found.attempts:,} attempts; the limit needs {load.least_s:.1f} s. "
            f"The gateway used {1e3 * found.cpu.matching('gateway') / load.herd:.2f} ms of processor time a client "
            f"meanwhile, its pushes included. {load.stay:,} clients who never left got {load.per_s:,.0f} pushes a "
            "second together:"
        ),
        tables=[Table(("", "p50 ms", "p99 ms", "max ms"), rows)],
    )
