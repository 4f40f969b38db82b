"""Figures: what a message costs a dispatcher with log and barrier, compared with pika alone; what safety costs."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks import raw_pika
from benchmarks.end_to_end import BODY_BYTES
from benchmarks.plane import Plane, Program, Services, running_dispatcher
from benchmarks.processes import cpu_of, started
from benchmarks.report import Section, Table
from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.keys import Keys
from pushcluster_contract.routing import TOPIC_EXCHANGE, RoutingMode
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_contract.topology import Binding, build_gateway_queue, build_subscription_queue, build_topology
from pushcluster_runtime.amqp import AmqpConnection
from pushcluster_runtime.redis.client import connect

DEMO: Final = Destination("queue", "demo")
AIM_PER_CPU_S: Final = 15_000
USERS: Final = 1_000
CROWD: Final = 10_000
"""Users who are all active in turn: more than a dispatcher caches anything for (`CACHED_ROUTES`, …)."""
GATEWAYS: Final = 2
ACKNOWLEDGED_WITHIN_S: Final = 120.0
REST_S: Final = 1.0
"""How long an idle dispatcher is watched, to learn what its start costs."""


@dataclass(frozen=True, slots=True)
class Safety:
    """How Redis keeps its append-only file."""

    name: str
    settings: tuple[tuple[str, str], ...]


SAFETIES: Final = (
    Safety("`appendfsync always`", (("appendonly", "yes"), ("appendfsync", "always"))),
    Safety("`appendfsync everysec`, WAITAOF", (("appendonly", "yes"), ("appendfsync", "everysec"))),
    Safety("no append-only file, no barrier", (("appendonly", "no"),)),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    mode: RoutingMode
    messages: int
    cpu_s: float
    """Of the dispatcher, without its start."""
    wall_s: float
    raw_cpu_s: float
    """Of pika, which consumes and publishes as many of the same messages in the same run."""
    batches: float
    """The number of AMQP messages that the copies were joined into."""

    @property
    def per_cpu_s(self) -> float:
        """Messages per processor second of the dispatcher."""
        return self.messages / self.cpu_s


async def run(services: Services, messages: int) -> Section:
    """Measure every mode, then mode Gateway with each level of safety."""
    always = SAFETIES[0]
    crowd = await measure(services, RoutingMode.GATEWAY, always, max(messages, 3 * CROWD), users=CROWD)
    modes = [await measure(services, mode, always, messages) for mode in RoutingMode]
    gateway = next(cost for cost in modes if cost.mode is RoutingMode.GATEWAY)
    others = [await measure(services, RoutingMode.GATEWAY, safety, messages) for safety in SAFETIES[1:]]
    return build_section(modes, list(zip(SAFETIES, (gateway, *others), strict=True)), crowd)


async def measure(services: Services, mode: RoutingMode, safety: Safety, messages: int, users: int = USERS) -> Cost:
    """Run the load through a dispatcher with these Redis settings, and return its cost. Restore Redis afterwards."""
    plane = Plane(services, await services.create_vhost(), mode)
    try:
        await services.configure_redis(safety.settings)
        raw_cpu_s = await raw_pika.measure(plane.amqp_url, messages=messages, body_bytes=BODY_BYTES)
        async with _gateways(plane, users):
            at_rest_s = await _cost_of_start(plane)
            await _fill(plane, messages, users)
            begin = time.monotonic()
            async with running_dispatcher(plane, 0) as dispatcher:
                await dispatcher.wait_ready()
                await _all_acknowledged(dispatcher, messages)
                cpu_s, wall_s = cpu_of(dispatcher.pid) - at_rest_s, time.monotonic() - begin
                batches = await dispatcher.metric("pushcluster_dispatcher_batches_sent_total")
        return Cost(mode, messages, cpu_s, wall_s, raw_cpu_s, batches)
    finally:
        await services.configure_redis(SAFETIES[0].settings)
        await services.delete_vhost(plane.vhost)


@asynccontextmanager
async def _gateways(plane: Plane, users: int) -> AsyncIterator[None]:
    """Until the end of the block, register every user with one of two gateways that discard what they get."""
    incarnations = [Incarnation(f"gateway-{n}", secrets.token_hex(8)) for n in range(GATEWAYS)]
    amqp = await AmqpConnection.connect(plane.amqp_url, name="benchmark", heartbeat_s=60)
    client, keys = connect(plane.redis_url, name="benchmark"), Keys(plane.cluster)
    try:
        channel = await amqp.channel()
        await channel.declare(build_topology())
        for incarnation in incarnations:
            queue, binding = build_gateway_queue(incarnation)
            await channel.declare_queue(queue)
            await channel.bind(binding)
            await channel.consume(queue.name, lambda _: None, no_ack=True)
        # For mode Session, this queue takes every routing key. Else all copies would be returned and go to gateways.
        sink = build_subscription_queue("sink")
        await channel.declare_queue(sink)
        await channel.bind(Binding(TOPIC_EXCHANGE, sink.name, "#"))
        await channel.consume(sink.name, lambda _: None, no_ack=True)
        async with client.pipeline(transaction=False) as pipeline:
            for n, user in enumerate(_users(users)):
                entry = SessionEntry(incarnations[n % GATEWAYS], (DEMO,)).encode()
                pipeline.hset(keys.sessions(user), session_id(n.to_bytes(17, "little")), entry)
            await pipeline.execute()
        yield
    finally:
        await client.aclose()
        await amqp.close()


async def _cost_of_start(plane: Plane) -> float:
    async with running_dispatcher(plane, 0) as idle:
        await idle.wait_ready()
        await asyncio.sleep(REST_S)
        return cpu_of(idle.pid)


async def _fill(plane: Plane, messages: int, users: int) -> None:
    async with started("benchmarks.publisher", "publisher") as publisher:
        await publisher.call("open", url=plane.amqp_url, users=list(_users(users)), body_bytes=BODY_BYTES)
        await publisher.call("burst", count=messages)
        await publisher.call("wait_confirmed")


async def _all_acknowledged(dispatcher: Program, messages: int) -> None:
    deadline = time.monotonic() + ACKNOWLEDGED_WITHIN_S
    while (done := await dispatcher.metric("pushcluster_dispatcher_acknowledged_total")) < messages:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{done:,.0f} of {messages:,} messages were acknowledged in {ACKNOWLEDGED_WITHIN_S:.0f} s"
            )
        await asyncio.sleep(0.05)


def _users(count: int) -> Iterator[str]:
    return (f"user-{n}" for n in range(count))


def build_section(modes: Sequence[Cost], safeties: Sequence[tuple[Safety, Cost]], crowd: Cost) -> Section:
    """Return the part of the document with all these figures."""
    gateway = next(cost for cost in modes if cost.mode is RoutingMode.GATEWAY)
    always = safeties[0][1]
    return Section(
        title="Dispatcher, and the price of safety",
        aim=f"mode Gateway: at least {AIM_PER_CPU_S:,} messages a CPU-second with log and barrier (better: 40,000)",
        reached=gateway.per_cpu_s >= AIM_PER_CPU_S,
        text=(
            f"First the ingress queues are filled with messages of {BODY_BYTES} B. Then one dispatcher processes them "
            f"all: it consumes, appends to the logs of {USERS:,} users, sends copies to {GATEWAYS} gateways, waits for "
            "the barrier, and acknowledges. For comparison, pika alone consumes as many of the same messages and "
            "publishes each once, without log, look-up or confirm. Every dispatcher process is new, and the cost of "
            "its start is subtracted."
        ),
        tables=[
            Table(
                ("mode", "messages / CPU-s", "pika alone", "÷ pika alone", "messages / s", "AMQP messages a copy"),
                [
                    (
                        cost.mode.value,
                        cost.per_cpu_s,
                        cost.messages / cost.raw_cpu_s,
                        cost.raw_cpu_s / cost.cpu_s,
                        cost.messages / cost.wall_s,
                        cost.batches / cost.messages,
                    )
                    for cost in modes
                ],
            ),
            Table(
                ("mode Gateway, active users", "messages / CPU-s", f"÷ {USERS:,} users", "messages / s"),
                [
                    (f"{users:,}", cost.per_cpu_s, cost.per_cpu_s / gateway.per_cpu_s, cost.messages / cost.wall_s)
                    for users, cost in ((USERS, gateway), (CROWD, crowd))
                ],
            ),
            Table(
                ("mode Gateway", "messages / CPU-s of the dispatcher", "messages / s", "÷ always"),
                [
                    (safety.name, cost.per_cpu_s, cost.messages / cost.wall_s, always.wall_s / cost.wall_s)
                    for safety, cost in safeties
                ],
            ),
        ],
    )
