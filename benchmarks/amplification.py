"""Figure: how the work for one push grows with the number of gateways, in each mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.connecting import connect_clients
from benchmarks.end_to_end import BODY_BYTES, all_arrived, load_generators
from benchmarks.plane import Services, running_plane
from benchmarks.report import Plot, Section, Table
from pushcluster_contract.routing import RoutingMode

GATEWAYS: Final = (1, 2, 4, 8)
CLIENTS: Final = 240
WARM_MESSAGES: Final = 480


@dataclass(frozen=True, slots=True)
class Load:
    """How many messages, and at which rate."""

    messages: int = 6_000
    per_s: float = 1_000.0
    gateways: Sequence[int] = GATEWAYS


@dataclass(frozen=True, slots=True)
class Price:
    """What one push costs."""

    mode: RoutingMode
    gateways: int
    received: float
    """Messages that the broker received for it, by the broker's own count."""
    delivered: float
    """Messages that the broker delivered for it to dispatcher and gateways."""
    gateway_us: float
    """Processor time of all gateways."""
    total_us: float
    """Processor time of everything."""


async def run(services: Services, load: Load) -> Section:
    """Measure every mode with every number of gateways."""
    prices = [await measure(services, mode, count, load) for mode in RoutingMode for count in load.gateways]
    return build_section(prices, load)


async def measure(services: Services, mode: RoutingMode, gateways: int, load: Load) -> Price:
    """Publish at a rate that everything keeps up with, and return what one push costs."""
    users = [f"user-{n}" for n in range(CLIENTS)]
    async with running_plane(services, mode, gateways=gateways) as plane, load_generators() as (clients, publisher):
        await connect_clients(clients, plane.ports, users)
        await plane.wait_own_queues(len(users))
        await publisher.call("open", url=plane.amqp_url, users=users, body_bytes=BODY_BYTES)
        await clients.call("observe", on=True)
        await publisher.call("burst", count=WARM_MESSAGES)
        await all_arrived(clients, WARM_MESSAGES)
        counted, times = await services.broker_counters(), plane.times()
        await publisher.call("steady", per_s=load.per_s, seconds=load.messages / load.per_s)
        await all_arrived(clients, WARM_MESSAGES + load.messages)
        used, now = plane.times().since(times), await services.broker_counters()
    return Price(
        mode,
        gateways,
        (now["received"] - counted["received"]) / load.messages,
        (now["delivered"] - counted["delivered"]) / load.messages,
        1e6 * used.matching("gateway") / load.messages,
        1e6 * used.total() / load.messages,
    )


def build_section(prices: Sequence[Price], load: Load) -> Section:
    """Return the figure's part of the document."""
    rows = [(p.mode.value, p.gateways, p.received, p.delivered, p.gateway_us, p.total_us) for p in prices]
    lines = {mode: [p for p in prices if p.mode is mode] for mode in RoutingMode}

    def plot(file: str, title: str, y_label: str, value: str) -> Plot:
        series = [(mode.value, [getattr(p, value) for p in found]) for mode, found in lines.items()]
        return Plot(file, title, "gateways", y_label, load.gateways, series)

    most, fewest = max(load.gateways), min(load.gateways)

    def growth(mode: RoutingMode) -> tuple[Price, Price]:
        found = {p.gateways: p for p in lines[mode]}
        return found[fewest], found[most]

    broadcast, gateway = growth(RoutingMode.BROADCAST), growth(RoutingMode.GATEWAY)
    return Section(
        title="Amplification: what a push costs as gateways are added",
        aim="",
        reached=None,
        text=(
            f"{CLIENTS} clients are spread over the gateways, with {load.per_s:,.0f} pushes a second.\n\n"
            "- *The more services, the more repeated sends*: mode Broadcast. From "
            f"{fewest} to {most} gateways, the messages that the broker delivers for a push go from "
            f"{broadcast[0].delivered:.2f} to {broadcast[1].delivered:.2f}. All gateways together then spend "
            f"{broadcast[1].gateway_us / broadcast[0].gateway_us:.1f} times the processor time.\n"
            f"- *One more send*: mode Gateway. From {fewest} to {most} gateways, the messages that the broker receives "
            f"for a push go from {gateway[0].received:.2f} to {gateway[1].received:.2f}. One of them is the publish "
            "itself. The dispatcher joins what goes to one gateway in one tick, so the second send costs a fraction of "
            "a message."
        ),
        tables=[
            Table(
                ("mode", "gateways", "broker received", "broker delivered", "gateways' CPU µs", "CPU µs of everything"),
                rows,
            )
        ],
        plots=[
            plot(
                "amplification-messages.png", "Messages that the broker delivers for one push", "messages", "delivered"
            ),
            plot("amplification-cpu.png", "Processor time of all gateways for one push", "µs", "gateway_us"),
        ],
    )
