"""Figure: how one user with many sessions and large messages affects the copies of a user in another partition."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pika.spec import BasicProperties

from benchmarks.end_to_end import BODY_BYTES
from benchmarks.measure import Latencies, median
from benchmarks.plane import Plane, Services, running_dispatcher
from benchmarks.processes import Child, started
from benchmarks.report import Section, Table
from pushcluster_contract.destinations import Destination
from pushcluster_contract.headers import DESTINATION
from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import INGRESS_PARTITIONS
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_contract.topology import PUSH_EXCHANGE, build_topology, ingress_queue
from pushcluster_runtime.amqp import AmqpConnection, Delivery
from pushcluster_runtime.redis.client import connect

AIM: Final = 5.0
DEMO: Final = Destination("queue", "demo")
HOT: Final = "hot"
HOT_BODY_BYTES: Final = 60_000
HOT_SESSIONS: Final = 64
HOT_GATEWAYS: Final = 2
HOT_BURST: Final = 20
CANDIDATES: Final = 16
"""Users of which one is in another partition than the hot one, but for one chance in 16¹⁶."""
SETTLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """How many pushes a second to the quiet user, for how long, how often."""

    per_s: float = 100.0
    seconds: float = 4.0
    rounds: int = 3


async def run(services: Services, load: Load) -> Section:
    """Measure the quiet user's copies with and without bursts to the hot user, in turns."""
    plane = Plane(services, await services.create_vhost(), RoutingMode.SESSION)
    try:
        quiet = await _find_user_of_another_partition(plane)
        async with (
            running_dispatcher(plane, 0) as dispatcher,
            _sinks(plane, quiet) as sink,
            started("benchmarks.publisher", "publisher") as publisher,
            started("benchmarks.publisher", "publisher to the hot user") as flood,
        ):
            await dispatcher.wait_ready()
            await publisher.call("open", url=plane.amqp_url, users=[quiet], body_bytes=BODY_BYTES)
            await flood.call("open", url=plane.amqp_url, users=[HOT], body_bytes=HOT_BODY_BYTES)
            before, after = [], []
            for _ in range(load.rounds):
                before.append(await measure_copies(publisher, sink, load.per_s, load.seconds))
                flooding = asyncio.create_task(_flood(flood))
                after.append(await measure_copies(publisher, sink, load.per_s, load.seconds))
                flooding.cancel()
                await asyncio.gather(flooding, return_exceptions=True)
                await flood.call("wait_confirmed")
                await asyncio.sleep(SETTLE_S)
    finally:
        await services.delete_vhost(plane.vhost)
    return build_section(before, after, load)


async def measure_copies(publisher: Child, sink: Child, per_s: float, seconds: float) -> Latencies:
    """Publish at a rate, and return how old the copies were when they arrived."""
    sent = (await publisher.call("steady", per_s=per_s, seconds=seconds))["sent"]
    ages: list[float] = []
    async with asyncio.timeout(30):
        while len(ages) < sent:
            await asyncio.sleep(0.05)
            ages += await sink.call("take")
    return Latencies.of(ages)


async def _flood(publisher: Child) -> None:
    while True:
        # Shielded: a command that was sent is answered before the next one.
        await asyncio.shield(asyncio.ensure_future(publisher.call("burst", count=HOT_BURST)))
        await asyncio.shield(asyncio.ensure_future(publisher.call("wait_confirmed")))
        await asyncio.sleep(0.5)


@asynccontextmanager
async def _sinks(plane: Plane, quiet: str) -> AsyncIterator[Child]:
    """Until the end of the block, play the gateways of both users. Yield the child that has the quiet user's."""
    async with AsyncExitStack() as stack:
        for _ in range(HOT_GATEWAYS):
            await stack.enter_async_context(playing_gateway(plane, HOT, sessions=HOT_SESSIONS // HOT_GATEWAYS))
        yield await stack.enter_async_context(playing_gateway(plane, quiet))


@asynccontextmanager
async def playing_gateway(plane: Plane, user: str, *, sessions: int = 1) -> AsyncIterator[Child]:
    """Until the end of the block, play a gateway that holds these sessions of a user (`copy_sink.py`)."""
    incarnation = Incarnation("gateway", secrets.token_hex(8))
    sids = [session_id(secrets.token_bytes(17)) for _ in range(sessions)]
    async with started("benchmarks.copy_sink", f"gateway of {user}") as child:
        await child.call("open", url=plane.amqp_url, incarnation=str(incarnation), name=DEMO.name, sids=sids)
        entry = SessionEntry(incarnation, (DEMO,)).encode()
        async with connect(plane.redis_url, name="benchmark") as client:
            await client.hset(Keys(plane.cluster).sessions(user), mapping=dict.fromkeys(sids, entry))
        yield child


async def _find_user_of_another_partition(plane: Plane) -> str:
    """Return a user whose ingress queue is not the hot user's. The queues are empty afterwards."""
    amqp = await AmqpConnection.connect(plane.amqp_url, name="benchmark")
    try:
        channel = await amqp.channel(confirm=True)
        await channel.declare(build_topology())
        partition: dict[str, str] = {}
        users = [HOT, *(f"quiet-{n}" for n in range(CANDIDATES))]
        everybody = asyncio.Event()

        def note(queue: str, delivery: Delivery) -> None:
            partition[delivery.routing_key] = queue
            if len(partition) == len(users):
                everybody.set()

        for number in range(INGRESS_PARTITIONS):
            queue = ingress_queue(number)
            await channel.consume(queue, lambda delivery, queue=queue: note(queue, delivery), no_ack=True)  # type: ignore[misc]
        for user in users:
            properties = BasicProperties(headers={DESTINATION: str(DEMO)})
            await channel.publish(PUSH_EXCHANGE, user, b"", properties, mandatory=False)
        async with asyncio.timeout(10):
            await everybody.wait()
        return next(user for user in users if partition[user] != partition[HOT])
    finally:
        await amqp.close()


def build_section(before: list[Latencies], after: list[Latencies], load: Load) -> Section:
    """Return the figure's part of the document."""
    p99 = [median([found.p99_ms for found in rounds]) for rounds in (before, after)]
    rows = [
        (name, median([f.p50_ms for f in rounds]), median([f.p99_ms for f in rounds]), max(f.max_ms for f in rounds))
        for name, rounds in (("alone", before), ("beside the hot user", after))
    ]
    return Section(
        title="One hot user",
        aim=f"a hot user moves the p99 of a copy in another partition by at most {AIM:g} times",
        reached=p99[1] <= AIM * p99[0],
        text=(
            f"A quiet user gets {load.per_s:,.0f} messages a second of {BODY_BYTES} B in mode Session. Measured is the "
            "time from publish to the arrival of the copy at a gateway. Beside it, a user of another partition has "
            f"{HOT_SESSIONS} sessions on {HOT_GATEWAYS} gateways and gets bursts of {HOT_BURST} messages of "
            f"{HOT_BODY_BYTES:,} B. The figures are medians of {load.rounds} rounds, in turns. The p99 beside the hot "
            f"user is {p99[1] / p99[0]:.1f} times the one without."
        ),
        tables=[Table(("", "p50 ms", "p99 ms", "max ms"), rows)],
    )
