"""Figure: how much memory of a gateway an idle, subscribed session holds."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.connecting import connect_clients
from benchmarks.plane import Services, running_plane
from benchmarks.processes import resident_bytes, started
from benchmarks.report import Section, Table
from pushcluster_contract.routing import RoutingMode

AIM_BYTES: Final = 10 * 1024
CENTRIFUGO_BYTES: Final = 27 * 1024
CENTRIFUGO_TUNED_BYTES: Final = int(10.9 * 1024)
WARM_SESSIONS: Final = 200
SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Held:
    """One measurement."""

    mode: RoutingMode
    sessions: int
    bytes_a_session: float


async def run(services: Services, sessions: int) -> Section:
    """Measure the modes Gateway and Session."""
    return build_section(
        [await measure(services, mode, sessions) for mode in (RoutingMode.GATEWAY, RoutingMode.SESSION)]
    )


async def measure(services: Services, mode: RoutingMode, sessions: int) -> Held:
    """Compare the resident memory of one gateway with some sessions and with many more."""
    async with running_plane(services, mode, gateways=1) as plane, started("benchmarks.stomp_clients", "c") as clients:
        (gateway,) = plane.gateways
        before = 0
        for first, count in ((0, WARM_SESSIONS), (WARM_SESSIONS, sessions)):
            before = resident_bytes(gateway.pid)
            users = [f"user-{n}" for n in range(first, first + count)]
            await connect_clients(clients, plane.ports, users)
            await plane.wait_own_queues(first + count)
            await asyncio.sleep(SETTLE_S)
        return Held(mode, sessions, (resident_bytes(gateway.pid) - before) / sessions)


def build_section(found: Sequence[Held]) -> Section:
    """Return the figure's part of the document."""
    rows: list[tuple[str, float, float, float]] = [
        (
            f"gateway, mode {held.mode.value}, {held.sessions:,} sessions",
            held.bytes_a_session / 1024,
            held.bytes_a_session / CENTRIFUGO_BYTES,
            held.bytes_a_session / CENTRIFUGO_TUNED_BYTES,
        )
        for held in found
    ]
    rows.append(("Centrifugo, published", 27.0, 1.0, CENTRIFUGO_BYTES / CENTRIFUGO_TUNED_BYTES))
    rows.append(("Centrifugo, tuned, published", 10.9, CENTRIFUGO_TUNED_BYTES / CENTRIFUGO_BYTES, 1.0))
    return Section(
        title="Gateway: memory of an idle session",
        aim="at most 10 KB resident a session (better: 6)",
        reached=all(held.bytes_a_session <= AIM_BYTES for held in found),
        text=(
            "The figure is the growth of the gateway process's resident memory, divided by the number of new sessions. "
            "Each session is one WebSocket, one STOMP session and one subscription, idle, on 127.0.0.1. The kernel's "
            "memory for sockets is not included, neither here nor in Centrifugo's figures."
        ),
        tables=[Table(("", "KB a session", "÷ Centrifugo", "÷ Centrifugo tuned"), rows)],
    )
