"""Defaults of `spec` fields that a program has too, for when nobody sets its variable.

`crds/pushcluster.yaml` states the same; a test compares it with the operator, which reads them from here.
"""

from typing import Final

MAX_CONNECTIONS: Final = 20_000
"""`gateway.maxConnections`."""

DRAIN_S: Final = 60
"""`gateway.drain.seconds`."""

OFFLINE_TTL_S: Final = 86_400
"""`delivery.offline.ttlSeconds`."""

OFFLINE_MAX_PER_DESTINATION: Final = 1_000
"""`delivery.offline.maxPerDestination`."""

RESUME_WINDOW_S: Final = 120
"""`delivery.resume.windowSeconds`."""

IDEMPOTENCY_WINDOW_S: Final = 600
"""`delivery.idempotency.windowSeconds`."""
