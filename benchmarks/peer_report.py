"""What `peer_centrifuge.py` has found, as a part of the document. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.end_to_end import BODY_BYTES, CLIENTS
from benchmarks.measure import Latencies, median
from benchmarks.report import Cell, Section, Table

NODES: Final = 2
"""As many as there are gateways in `end_to_end.connected_plane`."""
HTTP_CONNECTIONS: Final = 128
"""How many requests are under way at most when messages are published over HTTP."""
BATCH: Final = 100
"""Messages of a request, where a request has several."""
HEART_BEAT_S: Final = 10
"""How often idle clients get a heart-beat or a ping, and send one or answer it."""
STALL_PER_S: Final = 500.0
"""The rate at which the largest latency is looked for."""
AIM_MAX_MS: Final = 100.0


@dataclass(frozen=True, slots=True)
class Load:
    """How many clients and messages, and for how long. Each figure is the median of the rounds."""

    rounds: int = 5
    messages: int = 12_000
    """Of a round at the maximum; whole bursts."""
    quiet_s: float = 0.8
    """Of a round at 100 messages a second."""
    steady_s: float = 0.4
    """Of a round at 1,000 messages a second, and at half of the maximum."""
    clients: int = CLIENTS
    sessions: int = 2_000
    """Idle ones, whose memory is measured."""
    beating_sessions: int = 10_000
    """Idle ones with heart-beats, whose processor time is measured."""
    watch_rounds: int = 3
    """Of the figures that watch for some time: idle sessions, and the largest latency."""
    idle_s: float = HEART_BEAT_S
    """Of a round with idle sessions."""
    stall_s: float = 4.0
    """Of a round at 500 messages a second."""


@dataclass(frozen=True, slots=True)
class Round:
    """What publishing for some time took."""

    messages: int
    cpu_s: float
    """Of everything that a message passes."""
    latencies: Latencies


@dataclass(frozen=True, slots=True)
class Steady:
    """Medians of the rounds at one rate."""

    cpu_us: float
    """Of everything, a message."""
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Steady":
        """Return the medians. Raises ValueError if there are no rounds."""
        return cls(
            median([1e6 * each.cpu_s / each.messages for each in rounds]),
            median([each.latencies.p50_ms for each in rounds]),
            median([each.latencies.p99_ms for each in rounds]),
            median([each.latencies.max_ms for each in rounds]),
        )


@dataclass(frozen=True, slots=True)
class Maximum:
    """Medians of the rounds at the maximum rate."""

    per_s: float
    per_cpu_s: float
    """Deliveries per processor second of everything."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. None: not measured for this line."""

    name: str
    maximum: Maximum | None = None
    everyday: Steady | None = None
    quiet: Steady | None = None
    half: Steady | None = None
    stall: Steady | None = None
    """At STALL_PER_S."""
    aimed: bool = False
    """Whether the aim is set for this line."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Medians of the rounds with idle sessions, in percent of one core."""

    name: str
    own: float
    """Of the gateway, or of the node."""
    everything: float


@dataclass(frozen=True, slots=True)
class Parts:
    """Medians, in ms at 100 messages a second, of what each of our messages has to pass."""

    quorum_ms: float
    append_ms: float
    transient_ms: float

    @property
    def sum_ms(self) -> float:
        """One after the other."""
        return self.quorum_ms + self.append_ms + self.transient_ms


def build_section(
    results: Sequence[Result],
    session_bytes: Mapping[str, float],
    parts: Parts,
    idle: Sequence[Idle],
    load: Load,
    *,
    version: str,
) -> Section:
    """Return the figure's part of the document. The last of `idle` is the peer. `version` is the peer's."""
    aimed = [(each.name, each.stall) for each in results if each.aimed]
    return Section(
        title="Beside Centrifuge, at everyday rates too",
        aim=(
            f"{' and '.join(name for name, _ in aimed)}: at {STALL_PER_S:g} messages a second for {load.stall_s:g} s, "
            f"the largest latency is at most {AIM_MAX_MS:g} ms"
        ),
        reached=all(stall is not None and stall.max_ms <= AIM_MAX_MS for _, stall in aimed),
        text=describe(load, version),
        tables=[
            build_table(results, session_bytes),
            build_stalls(results, load),
            build_idle(idle, load),
            build_parts(results, parts),
        ],
    )


def describe(load: Load, version: str) -> str:
    """Return what was measured and how, and the settings of the peer."""
    return (
        f"{load.clients:,} clients have one subscription each, to messages of their own. Messages of {BODY_BYTES} B go "
        f"to them in turn. Ours: one dispatcher, {NODES} gateways, the broker, Redis. Centrifuge, the library behind "
        f"Centrifugo: {NODES} nodes, Redis. All of these count as *all*. Publishers and clients do not count, but "
        "they share the cores. A client of either side costs the same, because it only looks for a time in the bytes "
        "that arrive. Except where the table says so, clients ask for no heart-beats.\n\n"
        "At the maximum, a bounded number of messages is under way: over AMQP with publisher confirms, over HTTP on "
        f"{HTTP_CONNECTIONS} connections that each wait for the answer. Ours is published over AMQP where the line "
        "does not say otherwise, Centrifuge over HTTP. At a rate, each message is published at its planned time, and "
        f"latencies begin there. Figures are medians (rounds: {load.rounds}): {load.messages:,} messages at the "
        f"maximum, {load.quiet_s:g} s at 100/s, {load.steady_s:g} s at other rates. Memory is how much the resident "
        f"memory of one gateway or node grows with {load.sessions:,} idle sessions.\n\n"
        f"The second table looks for stalls: {load.stall_s:g} s at {STALL_PER_S:g}/s (rounds: {load.watch_rounds}; "
        "medians, also of the largest latencies).\n\n"
        f"The third table has one gateway or node with {load.beating_sessions:,} idle sessions. STOMP clients offer "
        f"`heart-beat:{HEART_BEAT_S * 1_000},{HEART_BEAT_S * 1_000}` and send one every {HEART_BEAT_S} s, although the "
        f"gateway asks for fewer. A Centrifuge node pings every {HEART_BEAT_S} s, and clients answer each ping. "
        f"Processor time is taken for {load.idle_s:g} s (rounds: {load.watch_rounds}) once all sessions have been "
        "idle for longer than one interval.\n\n"
        f"Centrifuge {version} (`benchmarks/peers/centrifuge`) has the library's defaults for client queues and their "
        "joined writes, for the WebSocket handler and the Redis client. It uses the JSON protocol, one channel for "
        "each user, to which the client subscribes, and no presence. It answers a publish once Redis has it.\n\n"
        "- *History, durable*: Redis keeps the last 100 messages of a channel for 24 hours, in a stream with "
        "`appendfsync always`. Clients subscribe with recovery. Compare with this setting first.\n"
        "- *Nothing kept*: Redis only passes messages on. A client that is away for a moment misses them.\n"
        f"- *{BATCH} messages a request*: the node publishes them all at once, and the Redis client joins them.\n"
        "- *Options that save memory*: a pool for write buffers, read buffers of 512 B, and commands handled off the "
        "read loop.\n\n"
        "The last table has the parts that each of our messages passes, measured alone in a process of their own: "
        "a quorum queue with acknowledgements, one append with `appendfsync always`, and one transient message to a "
        "consumer.\n\n"
        "Ours promises more than either: a message stays until the client has it, order for each user holds, and "
        "quorum queues stand in front of the log."
    )


def build_table(results: Sequence[Result], session_bytes: Mapping[str, float]) -> Table:
    """Return one line for each result, with the memory of a session that was measured for its name."""
    columns = (
        "",
        "deliveries / CPU-s of all",
        "max msg/s",
        "µs of CPU a message at 1,000/s",
        "µs of CPU a message at 100/s",
        "p50 ms at 100/s",
        "p99 ms at 100/s",
        "p50 ms at half of the maximum",
        "p99 ms at half of the maximum",
        "KB a session",
    )
    return Table(columns, [build_row(result, session_bytes.get(result.name)) for result in results])


def build_stalls(results: Sequence[Result], load: Load) -> Table:
    """Return the latencies of each line for which stalls were looked for."""
    found = [(each.name, each.stall) for each in results if each.stall is not None]
    rows = [(name, stall.p50_ms, stall.p99_ms, stall.max_ms) for name, stall in found]
    return Table((f"{load.stall_s:g} s at {STALL_PER_S:g}/s", "p50 ms", "p99 ms", "max ms"), rows)


def build_idle(idle: Sequence[Idle], load: Load) -> Table:
    """Return what idle sessions cost. The last line is the peer."""
    peer = idle[-1]
    rows = [(each.name, each.own, each.own / peer.own, each.everything) for each in idle]
    columns = ("gateway or node, % of a core", "÷ Centrifuge", "all, % of a core")
    return Table((f"{load.beating_sessions:,} sessions, heart-beats every {HEART_BEAT_S} s", *columns), rows)


def build_parts(results: Sequence[Result], parts: Parts) -> Table:
    """Return the parts alone, and how much longer a message takes on each way than these need one after the other."""
    named = (
        ("quorum queue, from publish to consumer", parts.quorum_ms),
        ("append to a stream", parts.append_ms),
        ("one hop of a transient message", parts.transient_ms),
        ("sum of these", parts.sum_ms),
        *((result.name, result.quiet.p50_ms) for result in results if result.quiet is not None),
    )
    rows = [(name, p50_ms, p50_ms / parts.sum_ms) for name, p50_ms in named]
    return Table(("at 100/s", "p50 ms", "÷ sum of the parts"), rows)


def build_row(result: Result, session_bytes: float | None) -> list[Cell]:
    """Return the cells of one result. What was not measured is a dash."""
    maximum, everyday, quiet, half = result.maximum, result.everyday, result.quiet, result.half
    figures: tuple[float | None, ...] = (
        None if maximum is None else maximum.per_cpu_s,
        None if maximum is None else maximum.per_s,
        None if everyday is None else everyday.cpu_us,
        None if quiet is None else quiet.cpu_us,
        None if quiet is None else quiet.p50_ms,
        None if quiet is None else quiet.p99_ms,
        None if half is None else half.p50_ms,
        None if half is None else half.p99_ms,
        None if session_bytes is None else session_bytes / 1024,
    )
    return [result.name, *("-" if figure is None else figure for figure in figures)]
