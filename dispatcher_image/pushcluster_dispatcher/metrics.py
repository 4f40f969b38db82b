"""The metrics of a dispatcher."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pushcluster_runtime.hops import DISPATCHER_HOPS, HopTimes

_BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        prefix = "pushcluster_dispatcher"
        self.received = Counter(f"{prefix}_received", "Messages taken from ingress", registry=registry)
        self.rejected = Counter(
            f"{prefix}_rejected",
            "Messages sent to push.rejected, by what was wrong with them",
            ["reason"],
            registry=registry,
        )
        self.appended = Counter(f"{prefix}_appended", "Messages written to users' logs", registry=registry)
        self.duplicates = Counter(
            f"{prefix}_duplicates",
            "Messages that were not appended again, because their message id was known",
            registry=registry,
        )
        self.fenced = Counter(
            f"{prefix}_appends_fenced",
            "Batches that Redis refused because another dispatcher had taken the partition over",
            registry=registry,
        )
        self.attempts_again = Counter(
            f"{prefix}_attempts_again",
            "Appends made again because a Redis connection was lost before they were safe, by what the log had: "
            "found (it was there) or appended",
            ["result"],
            registry=registry,
        )
        self.dropped = Counter(
            f"{prefix}_dropped_undelivered",
            "Log entries that no session had received when the limits of delivery.offline removed them",
            registry=registry,
        )
        self.acknowledged = Counter(f"{prefix}_acknowledged", "Messages acknowledged to ingress", registry=registry)
        self.copies_sent = Counter(f"{prefix}_copies_sent", "Copies published to gateways", registry=registry)
        self.copies_joined = Counter(
            f"{prefix}_copies_joined",
            "Copies that took the gateway's own queue because many were for that gateway (mode Session)",
            registry=registry,
        )
        self.copies_returned = Counter(
            f"{prefix}_copies_returned", "Copies that RabbitMQ returned because no queue took them", registry=registry
        )
        self.copies_fallback = Counter(
            f"{prefix}_copies_fallback", "Returned copies that then went to the gateway's own queue", registry=registry
        )
        self.copies_lost = Counter(
            f"{prefix}_copies_lost",
            "Copies that no queue took; gateways read these messages from the log",
            registry=registry,
        )
        self.copies_left_out = Counter(
            f"{prefix}_copies_left_out",
            "Copies that were not sent or not confirmed while RabbitMQ blocked publishers; gateways then read the logs",
            registry=registry,
        )
        self.batches_sent = Counter(
            f"{prefix}_batches_sent", "AMQP messages that copies were joined into", registry=registry
        )
        self.outcomes_sent = Counter(
            f"{prefix}_outcomes_sent", "Outcomes sent to producers who asked", registry=registry
        )
        self.outcomes_dropped = Counter(
            f"{prefix}_outcomes_dropped", "Outcomes that could not be sent and were dropped", registry=registry
        )
        self.resets = Counter(
            f"{prefix}_partition_resets",
            "Channels closed after a failure, so that messages come back in order",
            registry=registry,
        )
        self.restarts = Counter(
            f"{prefix}_partition_restarts",
            "Channels closed because the prefetch did not fit the size of the messages",
            registry=registry,
        )
        self.given_back = Counter(
            f"{prefix}_given_back",
            "Messages given back to RabbitMQ because one was unacknowledged for half of the time that RabbitMQ allows",
            registry=registry,
        )
        self.oldest_unacknowledged = Gauge(
            f"{prefix}_oldest_unacknowledged_seconds",
            "How long this dispatcher has held the oldest message that it has not acknowledged",
            registry=registry,
        )
        self.batch_size = Histogram(
            f"{prefix}_batch_messages", "Messages in one batch", buckets=_BATCH_BUCKETS, registry=registry
        )
        self.append_seconds = Histogram(
            f"{prefix}_append_seconds",
            "Seconds to append one batch to the users' logs",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.barrier_seconds = Histogram(
            f"{prefix}_barrier_seconds",
            "Seconds until one durability barrier was passed",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.hops = HopTimes("dispatcher", DISPATCHER_HOPS, registry=registry)
        self.partitions = Gauge(
            f"{prefix}_partitions_consuming", "Partitions with a consumer in this dispatcher", registry=registry
        )
        self.partitions_refused = Gauge(
            f"{prefix}_partitions_refused",
            "Partitions that RabbitMQ has not let this dispatcher consume for 10 s",
            registry=registry,
        )
        self.durability_reduced = Gauge(
            f"{prefix}_durability_reduced", "1 when Redis keeps no append-only file", registry=registry
        )
        self.api_requests = Counter(
            f"{prefix}_api_requests", "Requests to the HTTP API, by status", ["status"], registry=registry
        )
        self.api_pauses = Counter(
            f"{prefix}_api_pauses",
            "Times that the HTTP API let connections wait, because too many had shown no key",
            registry=registry,
        )
        self.api_connections_cut = Counter(
            f"{prefix}_api_connections_cut",
            "Connections of the HTTP API that were closed because there were too many, by cause",
            ["cause"],
            registry=registry,
        )
