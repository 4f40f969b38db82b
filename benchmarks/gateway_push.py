"""Figure: what one push costs a gateway once a copy has arrived, compared with a bare protocol that writes as much."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.breakdown import build_lines
from benchmarks.connecting import connect_clients
from benchmarks.measure import median, rate
from benchmarks.processes import Child, started
from benchmarks.report import Section, Table

LOOPBACK: Final = "benchmarks.loopback"
CLIENTS: Final = "benchmarks.stomp_clients"
SESSIONS: Final = 500
ROUNDS: Final = 3
PROFILED_ROUNDS: Final = 100
"""About a second of work, so several hundred samples."""
AIM_PER_CPU_S: Final = 250_000


@dataclass(frozen=True, slots=True)
class Case:
    """What is pushed, and in which form."""

    sessions_per_user: int
    joined: int
    """Frames that one client gets in one tick, and therefore in one write."""
    parsed: bool
    """Whether the batches are parsed before the measurement begins."""


AIMED_AT: Final = Case(sessions_per_user=1, joined=8, parsed=True)
CASES: Final = (
    Case(sessions_per_user=1, joined=1, parsed=True),
    AIMED_AT,
    Case(sessions_per_user=1, joined=32, parsed=True),
    Case(sessions_per_user=4, joined=8, parsed=True),
    Case(sessions_per_user=1, joined=8, parsed=False),
    Case(sessions_per_user=4, joined=8, parsed=False),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """One measurement: the medians of several rounds."""

    case: Case
    gateway: float
    """Pushes per processor second."""
    bare: float
    """Frames per processor second."""
    frame_bytes: float


async def run(*, pushes: int) -> Section:
    """Measure every case, with gateway and bare protocol in turns."""
    return build_section([await measure(case, pushes) for case in CASES], await profile())


async def measure(case: Case, pushes: int) -> Cost:
    """Measure one case."""
    users = [f"user-{n // case.sessions_per_user}" for n in range(SESSIONS)]
    arguments: Mapping[str, Any] = {"users": sorted(set(users)), "joined": case.joined, "parsed": case.parsed}
    rounds = max(1, pushes // (ROUNDS * SESSIONS * case.joined))
    async with (
        started(LOOPBACK, "gateway") as gateway,
        started("benchmarks.stomp_clients", "c") as clients,
    ):
        await connect(gateway, clients, users)
        bare_port = await gateway.call("serve_bare")
        await clients.call("connect_bare", port=bare_port, count=SESSIONS)
        await gateway.call("push", rounds=max(1, rounds // 4), **arguments)
        pairs = []
        for _ in range(ROUNDS):
            ours = await gateway.call("push", rounds=rounds, **arguments)
            if ours["holes"]:
                raise RuntimeError("the clients did not keep up: copies were dropped, so the figure would be wrong")
            size = round(ours["frame_bytes"])
            bare = await gateway.call("push_bare", rounds=rounds, joined=case.joined, frame_bytes=size)
            pairs.append((rate(ours["pushes"], ours["cpu_s"]), rate(bare["pushes"], bare["cpu_s"])))
    return Cost(case, median([ours for ours, _ in pairs]), median([bare for _, bare in pairs]), size)


async def connect(gateway: Child, clients: Child, users: Sequence[str]) -> None:
    """Open a session for each of these users."""
    await connect_clients(clients, [await gateway.call("serve")], users)


async def profile() -> str:
    """Return the functions in which the gateway spends most time, in the case for which the aim is set."""
    users = [f"user-{n}" for n in range(SESSIONS)]
    async with (
        started(LOOPBACK, "gateway") as gateway,
        started("benchmarks.stomp_clients", "c") as clients,
    ):
        await connect(gateway, clients, users)
        answer = await gateway.call(
            "push", users=users, rounds=PROFILED_ROUNDS, joined=AIMED_AT.joined, parsed=AIMED_AT.parsed, profile=True
        )
        return "\n".join(build_lines(Counter(answer["samples"])))


def build_section(costs: Sequence[Cost], profiled: str) -> Section:
    """Return the figure's part of the document."""
    rows = [
        (
            "copies" if cost.case.parsed else "bytes of a batch",
            cost.case.sessions_per_user,
            cost.case.joined,
            cost.gateway,
            cost.bare,
            cost.gateway / cost.bare,
        )
        for cost in costs
    ]
    reached = all(cost.gateway >= AIM_PER_CPU_S for cost in costs if cost.case == AIMED_AT)
    return Section(
        title="Gateway: pushes a processor second",
        aim=f"at least {AIM_PER_CPU_S:,} pushes a CPU-second, 200 B, {AIMED_AT.joined} frames joined in one write",
        reached=reached,
        text=(
            f"{SESSIONS} sessions have real sockets. A push is one MESSAGE ({costs[0].frame_bytes:.0f} B with its "
            "headers) in one session's socket. It starts as a parsed copy and goes through hub, subscription, STOMP, "
            "WebSocket and outbox to the kernel's `send`. The lines *bytes of a batch* begin one step earlier, and "
            "also parse the body of the AMQP message.\n\n"
            "The bare protocol writes as many bytes of ready frames to as many sockets, on the same event loop in the "
            "same process. In each tick every session gets the given number of messages, which become one write. The "
            f"figures are medians of {ROUNDS} rounds, with gateway and bare protocol in turns."
        ),
        tables=[
            Table(
                (
                    "begins with",
                    "sessions a user",
                    "frames a write",
                    "gateway, pushes / CPU-s",
                    "bare protocol, frames / CPU-s",
                    "gateway ÷ bare",
                ),
                rows,
            )
        ],
        profile="" if reached else profiled,
    )
