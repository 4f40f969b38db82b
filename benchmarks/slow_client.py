"""Figure: how one client that reads nothing affects the latencies of all others."""

import asyncio
from dataclasses import dataclass
from typing import Final

from benchmarks.end_to_end import BODY_BYTES, all_arrived, load_generators, steady
from benchmarks.measure import Latencies, median
from benchmarks.plane import Plane, Services, running_plane
from benchmarks.processes import Child
from benchmarks.report import Section, Table
from pushcluster_contract.routing import RoutingMode

AIM: Final = 1.2
SLOW: Final = "user-0"
ACKNOWLEDGED: Final = "pushcluster_dispatcher_acknowledged_total"
DISPATCHED_WITHIN_S: Final = 30.0
SETTLE_S: Final = 4.0
"""How long to wait after a flood, until the disk has written it.

With 1 s, the p99 of equal rounds differed by up to five times.
"""
SLOW_BODY_BYTES: Final = 16_000
"""SLOW_MESSAGES of this size are more than the outbox and the sockets hold.

So the client stays paused during the whole measurement.
"""
SLOW_MESSAGES: Final = 900


@dataclass(frozen=True, slots=True)
class Load:
    """How many clients, at which rate, for how long, how often."""

    clients: int = 1_000
    per_s: float = 1_000.0
    seconds: float = 8.0
    rounds: int = 3


async def run(services: Services, load: Load) -> Section:
    """Measure with and without a slow client, in turns."""
    users = [f"user-{n}" for n in range(load.clients)]
    async with (
        running_plane(services, RoutingMode.SESSION, gateways=2) as plane,
        load_generators() as (clients, publisher),
    ):
        before, after = [], []
        for _ in range(load.rounds):
            # Connect anew each time: these clients answer no ping, and a gateway closes them after about a minute.
            await clients.call("connect", ports=plane.ports, users=users, path="/ws", mode="gateway")
            await plane.wait_own_queues(len(users))
            await clients.call("observe", on=True)
            await _publish_to_slow(publisher, plane)
            await all_arrived(clients, SLOW_MESSAGES)
            before.append(await _measure(clients, publisher, plane, users[1:], load))
            await clients.call("stall", numbers=[0])
            await _publish_to_slow(publisher, plane)
            after.append(await _measure(clients, publisher, plane, users[1:], load))
            await clients.call("close")
    return build_section(before, after, load)


async def _measure(clients: Child, publisher: Child, plane: Plane, users: list[str], load: Load) -> Latencies:
    await publisher.call("open", url=plane.amqp_url, users=users, body_bytes=BODY_BYTES)
    return await steady(clients, publisher, load.per_s, load.seconds)


async def _publish_to_slow(publisher: Child, plane: Plane) -> None:
    """Fill everything between the log and the slow client, and return when that is done.

    This is done in both cases. The flood itself slows the others down, because Redis' file grows and the disk has to
    write it. That effect must not count as the effect of a slow client.
    """
    (dispatcher,) = plane.dispatchers
    before = await dispatcher.metric(ACKNOWLEDGED)
    await publisher.call("open", url=plane.amqp_url, users=[SLOW], body_bytes=SLOW_BODY_BYTES)
    await publisher.call("burst", count=SLOW_MESSAGES)
    await publisher.call("wait_confirmed")
    async with asyncio.timeout(DISPATCHED_WITHIN_S):
        while await dispatcher.metric(ACKNOWLEDGED) < before + SLOW_MESSAGES:
            await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE_S)


def build_section(before: list[Latencies], after: list[Latencies], load: Load) -> Section:
    """Return the figure's part of the document."""
    p99 = [median([found.p99_ms for found in rounds]) for rounds in (before, after)]
    rows = [
        (name, median([f.p50_ms for f in rounds]), median([f.p99_ms for f in rounds]), max(f.max_ms for f in rounds))
        for name, rounds in (("all read", before), ("one reads nothing", after))
    ]
    return Section(
        title="One slow client",
        aim=f"one slow client in {load.clients:,} moves the p99 of the others by at most {AIM} times",
        reached=p99[1] <= AIM * p99[0],
        text=(
            f"{load.clients:,} clients are on 2 gateways. All but one get {load.per_s:,.0f} pushes a second together. "
            f"In the second case, that one client reads nothing. In both cases it is sent {SLOW_MESSAGES:,} messages "
            f"of {SLOW_BODY_BYTES:,} B before each measurement. The figures are medians of {load.rounds} rounds, in "
            f"turns. The p99 with the slow client is {p99[1] / p99[0]:.2f} times the one without."
        ),
        tables=[Table(("", "p50 ms", "p99 ms", "max ms"), rows)],
    )
