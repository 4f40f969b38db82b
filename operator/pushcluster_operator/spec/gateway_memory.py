"""What a gateway's memory limit is for. Pure.

    limit ≥ base + idle connections + unauthenticated input + 2 x outboxes

The outboxes get half of what the rest leaves. The other half is for what Python and the kernel need beside the bytes
that are counted, and for pages of the log that are under way.
"""

from typing import Final

from pushcluster_contract.limits import MIN_OUTBOXES_BYTES, UNAUTHENTICATED_BYTES
from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.gateway import Gateway

BASE_BYTES: Final = 64 * 1_048_576
"""Memory of a gateway without any client."""
CONNECTION_BYTES: Final = 8_192
"""Memory of an idle session with a subscription in its gateway. 5.2 KB were measured (docs/benchmarks.md)."""
OUTBOXES_PERCENT: Final = 50
"""The outboxes' part of the memory that nothing else needs."""


def count_needed_bytes(gateway: Gateway) -> int:
    """Return the memory of a gateway with `maxConnections` clients, none of which is slow."""
    return BASE_BYTES + gateway.max_connections * CONNECTION_BYTES + UNAUTHENTICATED_BYTES


def count_outboxes_bytes(gateway: Gateway) -> int:
    """Return what may wait for all clients of a gateway together, in bytes."""
    free = quantities.to_bytes(gateway.resources.memory_limit) - count_needed_bytes(gateway)
    return max(MIN_OUTBOXES_BYTES, free * OUTBOXES_PERCENT // 100)
