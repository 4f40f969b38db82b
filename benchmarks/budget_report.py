"""What `latency_budget.py` has found, as a part of the document. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.end_to_end import BODY_BYTES, CLIENTS
from benchmarks.measure import median
from benchmarks.peer_report import Parts
from benchmarks.report import Cell, Section, Table
from pushcluster_runtime.hops import Hop

CONSUMED: Final = "consumed"
"""Measured in benchmarks alone, and not by a histogram: see `arrivals.py`."""
REST: Final = "read by the client"
HOPS: Final = {
    CONSUMED: "publish → consumed by the dispatcher",
    Hop.APPEND_SENT: "consumed → append sent",
    Hop.APPENDED: "append sent → appended",
    Hop.COPY_SENT: "appended → copy sent",
    Hop.COPY_READ: "copy sent → copy read by the gateway",
    Hop.WRITTEN: "copy read → written to the socket",
}
"""In the order of the way."""
AIM: Final = 1.3
PER_S: Final = 100.0


@dataclass(frozen=True, slots=True)
class Load:
    """How often, for how long, and to how many clients."""

    rounds: int = 5
    seconds: float = 1.5
    """Of each round, and of each part that is measured alone."""
    clients: int = CLIENTS


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one hop, or of the whole way, in ms."""

    p50_ms: float
    mean_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the figure of exact values. Raises ValueError if there are none."""
        return cls(1e3 * median(seconds), 1e3 * sum(seconds) / len(seconds))


@dataclass(frozen=True, slots=True)
class Buckets:
    """A Prometheus histogram: cumulative counts by upper bound in seconds, in order, and the sum of all values."""

    counts: Mapping[float, float]
    total_s: float

    @classmethod
    def parse(cls, text: str, name: str) -> dict[str, "Buckets"]:
        """Return the histogram of each hop in what a program exports. `name` is that of the metric."""
        counts: dict[str, dict[float, float]] = {}
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.name == name else ():
                if sample.name == f"{name}_bucket":
                    counts.setdefault(sample.labels["hop"], {})[float(sample.labels["le"])] = sample.value
                elif sample.name == f"{name}_sum":
                    totals[sample.labels["hop"]] = sample.value
        return {hop: cls(dict(sorted(found.items())), totals[hop]) for hop, found in counts.items()}

    @property
    def count(self) -> float:
        """How many values there are."""
        return max(self.counts.values(), default=0.0)

    def plus(self, other: "Buckets", times: int = 1) -> "Buckets":
        """Return the values of both, or with `times=-1` those that have come since `other`."""
        counts = {bound: count + times * other.counts.get(bound, 0.0) for bound, count in self.counts.items()}
        return Buckets(counts, self.total_s + times * other.total_s)

    def figure(self) -> Figure:
        """Return the mean, which is exact, and the median as Prometheus estimates it. Raises ValueError without values.

        A median beyond the last bound is that bound.
        """
        if not self.count:
            raise ValueError("a histogram without values has no median")
        middle = self.count / 2
        p50_s = max(bound for bound in self.counts if bound != float("inf"))
        for (low, below), (high, upto) in pairwise([(0.0, 0.0), *self.counts.items()]):
            if upto >= middle and high != float("inf"):
                p50_s = low + (high - low) * (middle - below) / (upto - below)
                break
        return Figure(1e3 * p50_s, 1e3 * self.total_s / self.count)


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the time goes in one mode."""

    name: str
    hops: Mapping[str, Figure]
    whole: Figure
    """From publish to client."""
    p50_ms: float
    """The median of the rounds' medians."""

    @property
    def rest_ms(self) -> float:
        """What the hops leave of the mean: mostly the way from the gateway's write to the client's read."""
        return self.whole.mean_ms - sum(figure.mean_ms for figure in self.hops.values())


def build_section(budgets: Sequence[Budget], parts: Parts, script_ms: float, load: Load) -> Section:
    """Return the figure's part of the document. `script_ms` is an append as the dispatcher makes it."""
    return Section(
        title="Latency budget: where the time of a push goes",
        aim=(
            f"all modes: the p50 at {PER_S:g}/s is at most {AIM:g} times a quorum queue, an append and a transient hop "
            "together, measured in the same run"
        ),
        reached=all(budget.p50_ms <= AIM * parts.sum_ms for budget in budgets),
        text=(
            f"{load.clients:,} clients have one subscription each, on 2 gateways. Messages of {BODY_BYTES} B go to "
            f"them in turn over AMQP, {PER_S:g} a second, in {load.rounds} rounds of {load.seconds:g} s. Before each, "
            "the parts that each message has to pass are measured alone, at the same rate.\n\n"
            "The hops from *consumed* to *written* are those of `pushcluster_dispatcher_hop_seconds` and "
            "`pushcluster_gateway_hop_seconds` (docs/internals/performance.md), of the messages that these sample. The "
            "first hop and the whole way come from stamps in all bodies. Means add up; medians are estimated from "
            "buckets, and do not. The last hop is what the others leave of the mean, so it has all of their "
            "sampling errors, and may even be negative."
        ),
        tables=[build_hops(budgets), build_floor(budgets, parts, script_ms)],
    )


def build_hops(budgets: Sequence[Budget]) -> Table:
    """Return a line for each hop, and two columns for each mode."""
    columns = [title for budget in budgets for title in (f"{budget.name}, p50 ms", "mean ms", "% of the mean")]
    lines: dict[str, list[Cell]] = {text: [] for text in (*HOPS.values(), f"written → {REST}", "publish → client")}
    for budget in budgets:
        figures: list[tuple[Cell, float]] = [
            (budget.hops[hop].p50_ms, budget.hops[hop].mean_ms) for hop in HOPS if hop in budget.hops
        ]
        figures += [("-", budget.rest_ms), (budget.whole.p50_ms, budget.whole.mean_ms)]
        for cells, (p50_ms, mean_ms) in zip(lines.values(), figures, strict=True):
            cells += [p50_ms, mean_ms, 100 * mean_ms / budget.whole.mean_ms]
    return Table((f"at {PER_S:g}/s", *columns), [(text, *cells) for text, cells in lines.items()])


def build_floor(budgets: Sequence[Budget], parts: Parts, script_ms: float) -> Table:
    """Return the parts alone, and each mode's median beside their sum."""
    named = (
        ("quorum queue, from publish to consumer", parts.quorum_ms),
        ("append to a stream (XADD)", parts.append_ms),
        ("one hop of a transient message", parts.transient_ms),
        ("sum of these", parts.sum_ms),
        ("for comparison: an append as the dispatcher makes it (EVALSHA)", script_ms),
        *((f"mode {budget.name}", budget.p50_ms) for budget in budgets),
    )
    rows = [(name, p50_ms, p50_ms / parts.sum_ms) for name, p50_ms in named]
    return Table((f"at {PER_S:g}/s", "p50 ms", "÷ sum of the parts"), rows)
