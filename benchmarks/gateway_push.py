"""Figure: what one push costs a gateway once it knows that a copy came, against a bare protocol that writes as much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.measure import rate
from benchmarks.processes import started
from benchmarks.report import Section, Table

SESSIONS: Final = 500
PUSHES: Final = 400_000
SESSIONS_PER_USER: Final = (1, 4)
AIM_PER_CPU_S: Final = 250_000
AIM_JOINED: Final = 8
PROFILED_ROUNDS: Final = 20
JOINS: Final = (1, 8, 32)
"""Frames to one client in one tick, hence in one write."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One measurement."""

    joined: int
    gateway: float
    """Pushes a processor second."""
    bare: float
    frame_bytes: float


async def run(*, pushes: int) -> Section:
    """Measure users with one session and with four."""
    return build_section(
        [(count, await measure(pushes=pushes, sessions_per_user=count)) for count in SESSIONS_PER_USER],
        await profile(),
    )


async def measure(*, sessions: int = SESSIONS, pushes: int = PUSHES, sessions_per_user: int = 1) -> list[Cost]:
    """Measure every number of joined frames, gateway and bare protocol in turn."""
    users = [f"user-{n // sessions_per_user}" for n in range(sessions)]
    costs = []
    async with (
        started("benchmarks.loopback", "gateway") as gateway,
        started("benchmarks.stomp_clients", "c") as clients,
    ):
        port, bare_port = await gateway.call("serve"), await gateway.call("serve_bare")
        await clients.call("connect", ports=[port], users=users, path="/ws", mode="gateway")
        await clients.call("connect_bare", port=bare_port, count=sessions)
        for joined in JOINS:
            rounds = max(1, pushes // (sessions * joined))
            arguments: Mapping[str, Any] = {"users": sorted(set(users)), "joined": joined}
            await gateway.call("push", rounds=max(1, rounds // 10), **arguments)
            ours = await gateway.call("push", rounds=rounds, **arguments)
            if ours["holes"]:
                raise RuntimeError("the clients did not keep up: copies were dropped and the figure says nothing")
            bare = await gateway.call("push_bare", rounds=rounds, joined=joined, frame_bytes=round(ours["frame_bytes"]))
            costs.append(
                Cost(
                    joined,
                    rate(ours["pushes"], ours["cpu_s"]),
                    rate(bare["pushes"], bare["cpu_s"]),
                    ours["frame_bytes"],
                )
            )
    return costs


async def profile() -> str:
    """Return the top lines of a profile of the gateway in the case that the aim speaks of."""
    users = [f"user-{n}" for n in range(SESSIONS)]
    async with (
        started("benchmarks.loopback", "gateway") as gateway,
        started("benchmarks.stomp_clients", "c") as clients,
    ):
        port = await gateway.call("serve")
        await clients.call("connect", ports=[port], users=users, path="/ws", mode="gateway")
        answer = await gateway.call("push", users=users, rounds=PROFILED_ROUNDS, joined=AIM_JOINED, profile=True)
        return str(answer["profile"])


def build_section(found: Sequence[tuple[int, Sequence[Cost]]], profiled: str) -> Section:
    """Return the figure's part of the document."""
    rows = [
        (sessions, cost.joined, cost.gateway, cost.bare, cost.gateway / cost.bare, cost.frame_bytes)
        for sessions, costs in found
        for cost in costs
    ]
    reached = all(c.gateway >= AIM_PER_CPU_S for _, costs in found for c in costs if c.joined == AIM_JOINED)
    return Section(
        title="Gateway: pushes a processor second",
        aim=f"at least {AIM_PER_CPU_S:,} pushes a CPU-second, 200 B, {AIM_JOINED} frames joined in one write",
        reached=reached,
        text=(
            f"{SESSIONS} sessions with real sockets. A push is one MESSAGE in one session's socket, from the batch of "
            "copies as it comes out of an AMQP message (parsing included, pika not) through hub, subscription, STOMP, "
            "WebSocket and outbox to the `send` of the kernel. The bare protocol writes as many bytes of ready frames "
            "to as many sockets on the same event loop. In each tick every session gets the given number of messages, "
            "which become one write."
        ),
        tables=[
            Table(
                (
                    "sessions a user",
                    "frames a write",
                    "gateway, pushes / CPU-s",
                    "bare protocol, frames / CPU-s",
                    "gateway ÷ bare",
                    "bytes a frame",
                ),
                rows,
            )
        ],
        profile="" if reached else profiled,
    )
