"""What a gateway counts. The counters are plain integers for speed: some change with every message."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pushcluster_runtime.hops import GATEWAY_HOPS, HopTimes


@dataclass(slots=True)
class Metrics:
    """Counters since the process began."""

    messages_written: int = 0
    messages_redelivered: int = 0
    messages_rejected: int = 0
    """Messages that clients refused by NACK. They are in `push.refused`."""
    refusals_not_copied: int = 0
    """Messages that clients refused and that are not there, because their users had refused too many."""
    copies_dropped: int = 0
    """Copies that were no newer than what had been written, or that no subscription here wanted."""
    batches_refused: int = 0
    """Batches of copies, or copies in them, that could not be read. The log has their messages."""
    holes: int = 0
    """Copies after which a subscription had to go from LIVE to CATCHUP, mostly because one before them was missing."""
    gaps: int = 0
    """Replays that found missing entries and told the client."""
    pages_read: int = 0
    outcomes_sent: int = 0
    """Outcomes sent to producers who asked for them."""
    outcomes_dropped: int = 0
    """Outcomes that could not be sent, or were not recorded because too many were waiting."""
    lease_renewals: int = 0
    lost_sessions_removed: int = 0
    """Sessions of lost gateways, removed because their users had reached the session limit."""
    calls_failed: int = 0
    """Requests of known users (a session, SUBSCRIBE, NACK) that were answered with "try again"."""
    tokens_put_off: int = 0
    """CONNECT frames that got the same answer because the keys for their tokens could not be read soon enough."""
    redis_errors: int = 0
    amqp_errors: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    """By `close_codes.Close.name`."""
    resyncs: Counter[str] = field(default_factory=Counter)
    """By `lease.ResyncCause`."""
    handshakes_refused: Counter[str] = field(default_factory=Counter)
    """By HTTP status."""
    handshakes_cut: Counter[str] = field(default_factory=Counter)
    """By `admission.CutCause`: sockets that ended without an answer before their WebSocket was open."""
    admissions_refused: Counter[str] = field(default_factory=Counter)
    """By `admission.RefusalCause`: the refusals with status 503."""
    key_reads: Counter[str] = field(default_factory=Counter)
    """By outcome: reads of the keys that verify tokens."""
    hops: HopTimes = field(default_factory=lambda: HopTimes("gateway", GATEWAY_HOPS))
    hop_clock_errors: int = 0
    """Marked copies that came before they were sent, or much later: the clocks of two nodes differ."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """Functions that return current values at each scrape."""

    connections: Callable[[], int]
    waiting: Callable[[], int]
    outboxes_bytes: Callable[[], int]
    sessions: Callable[[], int]
    subscriptions: Callable[[], int]
    with_queue: Callable[[], int]
    without_queue: Callable[[], int]
    keys: Callable[[], int]
    keys_age_s: Callable[[], float]
    tokens_waiting: Callable[[], int]


@dataclass(frozen=True, slots=True, eq=False)
class GatewayCollector(Collector):
    """Exports counters and gauges to a Prometheus registry."""

    metrics: Metrics
    gauges: Gauges

    def collect(self) -> Iterable[Metric]:
        """Return every metric family."""
        counts, gauges = self.metrics, self.gauges
        yield _gauge("connections", "Open sockets.", gauges.connections())
        yield _gauge("sockets_waiting", "Sockets that wait to be accepted.", gauges.waiting())
        yield _gauge("outboxes_bytes", "Bytes that wait for all sockets together.", gauges.outboxes_bytes())
        yield _gauge("sessions", "Connected sessions.", gauges.sessions())
        yield _gauge("subscriptions", "Subscriptions of all sessions.", gauges.subscriptions())
        text = "Subscriptions whose copies come over a queue of their own (mode Session)."
        yield _gauge("subscriptions_with_queue", text, gauges.with_queue())
        text = "Subscriptions that share the gateway's queue because the quota is used up (mode Session)."
        yield _gauge("subscriptions_without_queue", text, gauges.without_queue())
        yield _gauge("auth_keys", "Keys that verify tokens.", gauges.keys())
        yield _gauge("auth_keys_age_seconds", "Seconds since these keys were last read.", gauges.keys_age_s())
        yield _gauge("auth_tokens_waiting", "Tokens that wait until the keys are read again.", gauges.tokens_waiting())
        yield _counter("auth_tokens_put_off", "CONNECTs told to try again: no key in time.", counts.tokens_put_off)
        yield _counter("messages_written", "MESSAGE frames written.", counts.messages_written)
        yield _counter("messages_redelivered", "MESSAGEs with redelivered:true.", counts.messages_redelivered)
        yield _counter("messages_rejected", "Messages put into push.refused after a NACK.", counts.messages_rejected)
        yield _counter("refusals_not_copied", "NACKs beyond the bound of copies.", counts.refusals_not_copied)
        yield _counter("copies_dropped", "Copies over AMQP that were not needed.", counts.copies_dropped)
        yield _counter("batches_refused", "Batches or copies that could not be read.", counts.batches_refused)
        yield _counter("holes", "Copies after which a subscription reread the log.", counts.holes)
        yield _counter("gaps", "Replays that told the client about lost entries.", counts.gaps)
        yield _counter("catchup_pages", "Pages read from the log.", counts.pages_read)
        yield _counter("outcomes_sent", "Outcomes sent to producers who asked.", counts.outcomes_sent)
        yield _counter("outcomes_dropped", "Outcomes that could not be sent.", counts.outcomes_dropped)
        yield _counter("lease_renewals", "Lease renewals that succeeded.", counts.lease_renewals)
        yield _counter("lost_sessions_removed", "Removed sessions of lost gateways.", counts.lost_sessions_removed)
        yield _counter("calls_failed", "Client requests answered with: try again.", counts.calls_failed)
        yield _counter("redis_errors", "Redis calls that failed.", counts.redis_errors)
        yield _counter("amqp_errors", "Connections to RabbitMQ that failed or were lost.", counts.amqp_errors)
        yield _labelled("closes", "Connections closed, by cause.", "cause", counts.closes)
        yield _labelled("resyncs", "Resyncs: all sessions written again.", "cause", counts.resyncs)
        yield _labelled("handshakes_refused", "Handshakes refused, by status.", "status", counts.handshakes_refused)
        yield _labelled("handshakes_cut", "Sockets cut without an answer.", "cause", counts.handshakes_cut)
        yield _labelled(
            "admissions_refused", "Handshakes refused by 503, by cause.", "cause", counts.admissions_refused
        )
        yield _labelled("auth_key_reads", "Reads of the keys that verify tokens.", "outcome", counts.key_reads)
        yield from counts.hops.collect()
        yield _counter("hop_clock_errors", "Marked copies whose times are impossible.", counts.hop_clock_errors)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"pushcluster_gateway_{name}", text, value=value)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"pushcluster_gateway_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Counter[str]) -> Metric:
    family = CounterMetricFamily(f"pushcluster_gateway_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
