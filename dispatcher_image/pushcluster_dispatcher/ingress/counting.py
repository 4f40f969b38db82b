"""Counts in the metrics what became of batches."""

from collections.abc import Sequence

from pushcluster_dispatcher.ingress.batches import Batch
from pushcluster_dispatcher.log.entries import Appended
from pushcluster_dispatcher.messages import Rejection
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_runtime.amqp import Delivery


def count_batch(
    metrics: Metrics,
    batch: Batch,
    appended: Sequence[Appended],
    rejected: Sequence[tuple[Delivery, Rejection]],
    *,
    again: bool,
) -> None:
    """Count a batch once, and what was appended as often as it was."""
    new = sum(not entry.known for entry in appended)
    found = sum(entry.made_before for entry in appended)
    metrics.dropped.inc(sum(entry.dropped for entry in appended))
    metrics.appended.inc(new)
    if again:
        metrics.attempts_again.labels("found").inc(found)
        metrics.attempts_again.labels("appended").inc(new)
    if batch.counted:
        return
    batch.counted = True
    for _, rejection in rejected:
        metrics.rejected.labels(rejection.kind.value).inc()
    metrics.received.inc(batch.received)
    metrics.batch_size.observe(batch.received)
    metrics.appended.inc(found)
    metrics.duplicates.inc(len(appended) - new - found)


def count_part(metrics: Metrics, appended: Sequence[Appended]) -> None:
    """Count the part of a batch that was appended, when the rest is given back."""
    new = sum(not entry.known for entry in appended)
    metrics.received.inc(len(appended))
    metrics.dropped.inc(sum(entry.dropped for entry in appended))
    metrics.appended.inc(new)
    metrics.duplicates.inc(len(appended) - new)
