"""The conditions that warn of memory which does not bear what the spec lets in, though nobody has come yet."""

from fractions import Fraction
from typing import Final

from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.model import PushClusterSpec
from pushcluster_operator.status.conditions import Condition

MEBIBYTE: Final = 1_048_576
GATEWAY_BASE_BYTES: Final = 64 * MEBIBYTE
"""A gateway that nobody is connected to."""
CONNECTION_BYTES: Final = 8_192
"""An idle session with a subscription, in its gateway: 5.2 KB are measured (docs/benchmarks.md)."""
REGISTERED_BYTES: Final = 1_024
"""The same in Redis, without any message."""


def build_memory_warnings(spec: PushClusterSpec) -> tuple[Condition, ...]:
    """Return them; each says how to mend it."""
    gateway, redis = spec.gateway, spec.redis
    needed = GATEWAY_BASE_BYTES + gateway.max_connections * CONNECTION_BYTES
    short = []
    if needed > quantities.parse(gateway.resources.memory_limit):
        short.append(
            f"a gateway with gateway.maxConnections ({gateway.max_connections}) idle clients takes about "
            f"{_mebibytes(needed)}, and is killed above gateway.resources.limits.memory "
            f"({gateway.resources.memory_limit}). Raise the limit, or lower maxConnections"
        )
    registered = gateway.replicas * gateway.max_connections * REGISTERED_BYTES
    if registered > quantities.parse(redis.max_memory):
        short.append(
            f"the sessions of {gateway.replicas} gateways with gateway.maxConnections ({gateway.max_connections}) "
            f"clients take about {_mebibytes(registered)} in Redis, which holds no more than redis.managed.maxMemory "
            f"({redis.max_memory}): then nothing more is accepted. Raise maxMemory, or lower maxConnections"
        )
    return (Condition("MemoryShort", "True", "LimitsContradict", "; ".join(short)),) if short else ()


def _mebibytes(amount: Fraction | int) -> str:
    return f"{-(-amount // MEBIBYTE)}Mi"
