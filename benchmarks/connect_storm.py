"""Figure: ten thousand sessions connect at once, compared with the broker alone making their queues."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.measure import ProcessTimes
from benchmarks.plane import Plane, Services, running_plane
from benchmarks.processes import started
from benchmarks.report import Section, Table
from pushcluster_contract.keys import Keys
from pushcluster_contract.routing import TOPIC_EXCHANGE, RoutingMode
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_contract.topology import Binding, build_subscription_queue
from pushcluster_gateway.broker.link import CHANNELS
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection
from pushcluster_runtime.redis.client import connect

SESSIONS: Final = 10_000
GATEWAYS: Final = 2
AIM: Final = 2.5
CLIENT_PROCESSES: Final = 2
KEYS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Storm:
    """What one mode took."""

    mode: RoutingMode
    seconds: float
    """To the last RECEIPT."""
    queues_s: float
    """To the last queue of mode Session."""
    errors: int
    registered: int
    """Sessions that are in the registry, with their destination and a gateway that is listed there."""
    cpu: ProcessTimes


async def run(services: Services, sessions: int) -> Section:
    """Measure the broker alone, then every mode."""
    alone_s = await measure_broker_alone(services, sessions)
    storms = [await measure(services, mode, sessions) for mode in RoutingMode]
    return build_section(alone_s, storms, sessions)


async def measure(services: Services, mode: RoutingMode, sessions: int) -> Storm:
    """Connect all sessions as fast as they can. Return the time, the errors and what the registry holds."""
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(running_plane(services, mode, gateways=GATEWAYS, dispatchers=0))
        children = [
            await stack.enter_async_context(started("benchmarks.stomp_clients", f"clients-{n}"))
            for n in range(CLIENT_PROCESSES)
        ]
        before, begin = plane.times(), time.monotonic()
        answers = await asyncio.gather(
            *(
                child.call(
                    "connect",
                    ports=plane.ports[n:] + plane.ports[:n],
                    users=[f"user-{u}" for u in range(n, sessions, CLIENT_PROCESSES)],
                    path="/ws",
                    mode="gateway",
                    source=f"127.0.0.{2 + n}",
                )
                for n, child in enumerate(children)
            )
        )
        seconds, cpu = time.monotonic() - begin, plane.times().since(before)
        await plane.wait_own_queues(sessions)
        queues_s = time.monotonic() - begin
        errors = sum(len(answer["errors"]) for answer in answers)
        return Storm(mode, seconds, queues_s, errors, await count_registered(plane, sessions), cpu)


async def count_registered(plane: Plane, sessions: int) -> int:
    """Return how many sessions the registry holds as it should."""
    client, keys = connect(plane.services.redis_url, name="benchmark"), Keys(plane.vhost)
    try:
        gateways: Any = await client.zrange(keys.gateways, 0, -1)
        found = 0
        for first in range(0, sessions, KEYS_AT_ONCE):
            async with client.pipeline(transaction=False) as pipeline:
                for user in range(first, min(first + KEYS_AT_ONCE, sessions)):
                    pipeline.hgetall(keys.sessions(f"user-{user}"))
                entries: list[dict[bytes, bytes]] = await pipeline.execute()
            for entry in (SessionEntry.parse(text.decode()) for each in entries for text in each.values()):
                found += str(entry.incarnation).encode() in gateways and len(entry.destinations) == 1
        return found
    finally:
        await client.aclose()


async def measure_broker_alone(services: Services, sessions: int) -> float:
    """Return the seconds that the broker alone needs for the same queues, bindings and consumers.

    They use as many connections and channels as the gateways do.
    """
    vhost = await services.create_vhost()
    try:
        connections = [
            await AmqpConnection.connect(services.amqp_url(vhost), name="benchmark") for _ in range(GATEWAYS)
        ]
        channels = [await connection.channel() for connection in connections for _ in range(CHANNELS)]
        begin = time.monotonic()
        numbers = iter(range(sessions))
        await asyncio.gather(*(_open_queues(channel, numbers) for channel in channels))
        seconds = time.monotonic() - begin
        for connection in connections:
            await connection.close()
        return seconds
    finally:
        await services.delete_vhost(vhost)


async def _open_queues(channel: AmqpChannel, numbers: Any) -> None:
    for number in numbers:
        queue = build_subscription_queue(f"benchmark-{number}")
        await channel.declare_queue(queue)
        await channel.bind(Binding(TOPIC_EXCHANGE, queue.name, f"demo-user{number}"))
        await channel.consume(queue.name, lambda _: None, no_ack=True)


def build_section(alone_s: float, storms: Sequence[Storm], sessions: int) -> Section:
    """Return the figure's part of the document."""
    rows: list[tuple[str | float, ...]] = [
        (
            s.mode.value,
            s.seconds,
            s.seconds / alone_s,
            s.queues_s if s.mode is RoutingMode.SESSION else "",
            s.errors,
            s.registered,
            *(1e6 * s.cpu.matching(part) / sessions for part in ("gateway", "rabbitmq", "redis")),
        )
        for s in storms
    ]
    rows.append(("broker alone", alone_s, 1.0, alone_s, 0, "", "", "", ""))
    return Section(
        title="Connect storm",
        aim=f"{sessions:,} sessions at once within {AIM} times the broker-only time, 0 errors, registry correct",
        reached=all(s.seconds <= AIM * alone_s and not s.errors and s.registered == sessions for s in storms),
        text=(
            f"{sessions:,} clients connect at once to {GATEWAYS} gateways (handshake limit off), each with one "
            "subscription. The time ends with the last RECEIPT. In mode Session, each subscription that lasts gets a "
            "queue of its own afterwards, with a binding and a consumer. For comparison, the broker alone makes the "
            f"same over {GATEWAYS} connections of {CHANNELS} channels. Processor time is taken at the last RECEIPT."
        ),
        tables=[
            Table(
                (
                    "",
                    "seconds",
                    "÷ broker alone",
                    "seconds to the last queue",
                    "errors",
                    "correct in the registry",
                    "CPU µs a session: gateways",
                    "broker",
                    "Redis",
                ),
                rows,
            )
        ],
    )
