"""What the operator counts, for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(slots=True)
class Measured:
    """One piece of work under way."""

    failed: bool = False


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """Metrics of one work queue."""

    done: Counter
    errors: Counter
    seconds: Histogram
    depth: Gauge

    @classmethod
    def of(cls, registry: CollectorRegistry, queue: str, what: str) -> "QueueMetrics":
        """Register the metrics `pushcluster_operator_<queue>…`."""
        prefix = f"pushcluster_operator_{queue}"
        return cls(
            Counter(prefix, f"{what} that ended, whether they succeeded or failed.", registry=registry),
            Counter(f"{prefix}_errors", f"{what} that failed and are tried again.", registry=registry),
            Histogram(f"{prefix}_seconds", f"Seconds that {what.lower()} took.", registry=registry),
            Gauge(f"{prefix}_queue_depth", f"{what} that wait, including those that are due later.", registry=registry),
        )

    @contextmanager
    def measure(self) -> Iterator[Measured]:
        """Time one piece of work and count how it ended."""
        measured, started = Measured(), time.monotonic()
        try:
            yield measured
        finally:
            self.seconds.observe(time.monotonic() - started)
            self.done.inc()
            if measured.failed:
                self.errors.inc()


class Metrics:
    """All metrics of the operator."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.reconciles = QueueMetrics.of(registry, "reconciles", "Reconciles")
        self.sweeps = QueueMetrics.of(registry, "sweeps", "Session sweeps")
        self.sessions_removed = Counter(
            "pushcluster_sessions_removed",
            "Stale session entries removed from the registry.",
            ["namespace", "name", "cause"],
            registry=registry,
        )
        self.sweep_errors = Counter(
            "pushcluster_operator_failed_sweeps",
            "Sweeps that failed because Redis or the API server did not answer. They removed nothing on a guess.",
            registry=registry,
        )
        self.child_writes = Counter(
            "pushcluster_operator_child_writes",
            "Writes to children. When nothing changes, there are none.",
            ["kind", "action"],
            registry=registry,
        )
        self.leader = Gauge("pushcluster_operator_leader", "1 while this process holds the Lease.", registry=registry)
