"""What a gateway counts. Plain integers, because some are counted for every message; read at a scrape."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(slots=True)
class Metrics:
    """Counters since the process began."""

    messages_written: int = 0
    messages_redelivered: int = 0
    messages_rejected: int = 0
    """That a client answered with NACK; `push.rejected` has them."""
    copies_dropped: int = 0
    """Copies that were not newer than what was written already, or not for this subscription."""
    batches_refused: int = 0
    """Batches of copies, or copies in them, that could not be read; the log has their messages."""
    holes: int = 0
    """Copies that did not follow the one before: the subscription went to CATCHUP."""
    gaps: int = 0
    """Replays that found entries gone, and told the client so."""
    pages_read: int = 0
    outcomes_sent: int = 0
    """To producers who asked what became of a message."""
    outcomes_dropped: int = 0
    """That could not be sent, or not be noted any more."""
    lease_renewals: int = 0
    lost_sessions_removed: int = 0
    """Of users who had no place left, at gateways whose lease ran out long ago."""
    calls_failed: int = 0
    """What known users asked for (a session, SUBSCRIBE, NACK) that was answered with "try again"."""
    tokens_put_off: int = 0
    """CONNECT frames that were answered so, because the keys of their tokens could not be read soon enough."""
    redis_errors: int = 0
    amqp_errors: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    """By `closes.Close.name`."""
    resyncs: Counter[str] = field(default_factory=Counter)
    """By `lease.Cause`."""
    handshakes_refused: Counter[str] = field(default_factory=Counter)
    """By HTTP status."""
    handshakes_cut: Counter[str] = field(default_factory=Counter)
    """By `admission.Cut`: sockets that ended before their WebSocket was open, and got no answer."""
    admissions_refused: Counter[str] = field(default_factory=Counter)
    """By `admission.Cause`: those of status 503."""
    key_reads: Counter[str] = field(default_factory=Counter)
    """By outcome: reads of the keys that tokens are checked with."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What there is now."""

    connections: Callable[[], int]
    sessions: Callable[[], int]
    subscriptions: Callable[[], int]
    without_queue: Callable[[], int]
    keys: Callable[[], int]
    keys_age_s: Callable[[], float]
    tokens_waiting: Callable[[], int]


@dataclass(frozen=True, slots=True, eq=False)
class GatewayCollector(Collector):
    """Hands both to a prometheus registry."""

    metrics: Metrics
    gauges: Gauges

    def collect(self) -> Iterable[Metric]:
        """Return every family."""
        counts, gauges = self.metrics, self.gauges
        yield _gauge("connections", "Open sockets.", gauges.connections())
        yield _gauge("sessions", "Sessions that are connected.", gauges.sessions())
        yield _gauge("subscriptions", "Subscriptions of all sessions.", gauges.subscriptions())
        text = "Subscriptions that share the gateway's queue for want of room at the broker (mode Session)."
        yield _gauge("subscriptions_without_queue", text, gauges.without_queue())
        yield _gauge("auth_keys", "Keys that tokens are checked with.", gauges.keys())
        yield _gauge("auth_keys_age_seconds", "Since these keys were last read.", gauges.keys_age_s())
        yield _gauge("auth_tokens_waiting", "Tokens that wait until keys are read again.", gauges.tokens_waiting())
        yield _counter("auth_tokens_put_off", "Tokens without a key in time: try again.", counts.tokens_put_off)
        yield _counter("messages_written", "MESSAGE frames written.", counts.messages_written)
        yield _counter("messages_redelivered", "Those with redelivered:true.", counts.messages_redelivered)
        yield _counter("messages_rejected", "Messages put into push.rejected after a NACK.", counts.messages_rejected)
        yield _counter("copies_dropped", "Copies over AMQP that were not needed.", counts.copies_dropped)
        yield _counter("batches_refused", "Batches or copies that could not be read.", counts.batches_refused)
        yield _counter("holes", "Copies that did not follow the one before.", counts.holes)
        yield _counter("gaps", "Replays that told the client of lost entries.", counts.gaps)
        yield _counter("catchup_pages", "Pages read from the log.", counts.pages_read)
        yield _counter("outcomes_sent", "Outcomes sent to producers who asked.", counts.outcomes_sent)
        yield _counter("outcomes_dropped", "Outcomes that could not be sent.", counts.outcomes_dropped)
        yield _counter("lease_renewals", "Lease renewals that succeeded.", counts.lease_renewals)
        yield _counter("lost_sessions_removed", "Sessions that lost gateways left.", counts.lost_sessions_removed)
        yield _counter("calls_failed", "Requests of clients answered with: try again.", counts.calls_failed)
        yield _counter("redis_errors", "Redis calls that failed.", counts.redis_errors)
        yield _counter("amqp_errors", "Connections to RabbitMQ that failed or were lost.", counts.amqp_errors)
        yield _labelled("closes", "Connections closed.", "cause", counts.closes)
        yield _labelled("resyncs", "Times that all sessions were written back.", "cause", counts.resyncs)
        yield _labelled("handshakes_refused", "WebSocket handshakes refused.", "status", counts.handshakes_refused)
        yield _labelled("handshakes_cut", "Sockets cut without an answer.", "cause", counts.handshakes_cut)
        yield _labelled("admissions_refused", "Those refused with 503, by why.", "cause", counts.admissions_refused)
        yield _labelled("auth_key_reads", "Times that keys were read.", "outcome", counts.key_reads)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"pushcluster_gateway_{name}", text, value=value)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"pushcluster_gateway_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Counter[str]) -> Metric:
    family = CounterMetricFamily(f"pushcluster_gateway_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
