"""Figure: how clients without a key at the HTTP API affect the copies that the same dispatcher sends."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from benchmarks.end_to_end import BODY_BYTES
from benchmarks.hot_user import measure_copies, playing_gateway
from benchmarks.measure import Latencies, median
from benchmarks.plane import Api, Plane, Services, running_dispatcher
from benchmarks.processes import cpu_of, started
from benchmarks.report import Section, Table
from pushcluster_contract.routing import RoutingMode

AIM: Final = 1.5
USER: Final = "alice"


@dataclass(frozen=True, slots=True)
class Load:
    """The pushes, and the clients without a key."""

    per_s: float = 100.0
    seconds: float = 4.0
    rounds: int = 5
    strangers: int = 200


@dataclass(frozen=True, slots=True)
class Round:
    """What one measurement gave."""

    latencies: Latencies
    cpu_s: float
    """Of the dispatcher."""


async def run(services: Services, load: Load) -> Section:
    """Measure the copies with and without the strangers, in turns."""
    plane = Plane(services, await services.create_vhost(), RoutingMode.SESSION)
    api = Api.fresh()
    answers: Counter[str] = Counter()
    try:
        async with (
            running_dispatcher(plane, 0, api=api) as dispatcher,
            playing_gateway(plane, USER) as sink,
            started("benchmarks.publisher", "publisher") as publisher,
            started("benchmarks.strangers", "clients without a key") as strangers,
        ):
            await dispatcher.wait_ready()
            await publisher.call("open", url=plane.amqp_url, users=[USER], body_bytes=BODY_BYTES)

            async def measure() -> Round:
                cpu_s = cpu_of(dispatcher.pid)
                latencies = await measure_copies(publisher, sink, load.per_s, load.seconds)
                return Round(latencies, cpu_of(dispatcher.pid) - cpu_s)

            await measure()  # the first connections and look-ups
            before, after = [], []
            for _ in range(load.rounds):
                before.append(await measure())
                await strangers.call("start", port=api.port, clients=load.strangers)
                after.append(await measure())
                answers.update(await strangers.call("stop"))
    finally:
        await services.delete_vhost(plane.vhost)
    return build_section(before, after, answers, load)


def build_section(before: list[Round], after: list[Round], answers: Counter[str], load: Load) -> Section:
    """Return the figure's part of the document."""
    p99 = [median([each.latencies.p99_ms for each in rounds]) for rounds in (before, after)]
    rows = [
        (
            name,
            median([each.latencies.p50_ms for each in rounds]),
            median([each.latencies.p99_ms for each in rounds]),
            max(each.latencies.max_ms for each in rounds),
            median([each.cpu_s / load.seconds for each in rounds]),
        )
        for name, rounds in (("alone", before), (f"beside {load.strangers} clients without a key", after))
    ]
    told = ", ".join(f"{count:,} times {status or 'none'}" for status, count in sorted(answers.items()))
    return Section(
        title="Clients without a key at the HTTP API",
        aim=f"{load.strangers} of them move the p99 of the dispatcher's copies by at most {AIM} times",
        reached=p99[1] <= AIM * p99[0],
        text=(
            f"A user gets {load.per_s:,.0f} messages a second of {BODY_BYTES} B. Measured is the time from publish to "
            f"the arrival of the copy at a gateway. In the second case, {load.strangers} clients connect, ask without "
            f"a key, read the answer and come again as fast as they can. Their answers: {told}. The "
            f"figures are medians of {load.rounds} rounds, in turns. The p99 beside them is "
            f"{p99[1] / p99[0]:.2f} times the one without."
        ),
        tables=[Table(("", "p50 ms", "p99 ms", "max ms", "CPU-s a second"), rows)],
    )
