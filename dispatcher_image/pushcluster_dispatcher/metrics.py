"""What the dispatcher counts."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        prefix = "pushcluster_dispatcher"
        self.received = Counter(f"{prefix}_received", "Messages taken from ingress", registry=registry)
        self.rejected = Counter(
            f"{prefix}_rejected", "Messages put into push.rejected, by what was wrong", ["reason"], registry=registry
        )
        self.appended = Counter(f"{prefix}_appended", "Messages written to users' logs", registry=registry)
        self.duplicates = Counter(
            f"{prefix}_duplicates", "Messages whose message id had been appended before", registry=registry
        )
        self.dropped = Counter(
            f"{prefix}_dropped_undelivered",
            "Log entries that nobody had got when the limits of delivery.offline pushed them out",
            registry=registry,
        )
        self.acknowledged = Counter(f"{prefix}_acknowledged", "Messages acknowledged to ingress", registry=registry)
        self.copies_sent = Counter(f"{prefix}_copies_sent", "Copies published to gateways", registry=registry)
        self.copies_returned = Counter(
            f"{prefix}_copies_returned", "Copies that no queue took at first", registry=registry
        )
        self.copies_fallback = Counter(
            f"{prefix}_copies_fallback", "Returned copies that the gateway's own queue took", registry=registry
        )
        self.copies_lost = Counter(
            f"{prefix}_copies_lost", "Copies that nobody took; clients get them from the log", registry=registry
        )
        self.copies_left_out = Counter(
            f"{prefix}_copies_left_out",
            "Copies that were not sent, or not answered, because RabbitMQ took nothing; gateways look at the logs then",
            registry=registry,
        )
        self.batches_sent = Counter(
            f"{prefix}_batches_sent", "AMQP messages that copies were joined into", registry=registry
        )
        self.outcomes_sent = Counter(
            f"{prefix}_outcomes_sent", "Outcomes sent to producers who asked", registry=registry
        )
        self.outcomes_dropped = Counter(
            f"{prefix}_outcomes_dropped", "Outcomes that could not be sent", registry=registry
        )
        self.resets = Counter(
            f"{prefix}_partition_resets", "Channels closed so that messages come back in order", registry=registry
        )
        self.restarts = Counter(
            f"{prefix}_partition_restarts",
            "Channels closed because the prefetch did not fit the size of the messages",
            registry=registry,
        )
        self.batch_size = Histogram(
            f"{prefix}_batch_messages", "Messages in one batch", buckets=_BATCH_BUCKETS, registry=registry
        )
        self.append_seconds = Histogram(
            f"{prefix}_append_seconds", "One batch of APPEND", buckets=_SECONDS_BUCKETS, registry=registry
        )
        self.barrier_seconds = Histogram(
            f"{prefix}_barrier_seconds", "One durability barrier", buckets=_SECONDS_BUCKETS, registry=registry
        )
        self.partitions = Gauge(f"{prefix}_partitions_consuming", "Partitions with a consumer here", registry=registry)
        self.partitions_refused = Gauge(
            f"{prefix}_partitions_refused",
            "Partitions that RabbitMQ has refused it for 10 s",
            registry=registry,
        )
        self.durability_reduced = Gauge(
            f"{prefix}_durability_reduced", "1 when Redis keeps no append-only file", registry=registry
        )
        self.api_requests = Counter(
            f"{prefix}_api_requests", "Requests to the HTTP API, by status", ["status"], registry=registry
        )
        self.api_connections_cut = Counter(
            f"{prefix}_api_connections_cut",
            "Connections of the HTTP API that ended because there were too many: they gave way, or found all at work",
            ["cause"],
            registry=registry,
        )
