"""The conditions that warn. Nothing is broken, but the spec allows something that its author may not want."""

from fractions import Fraction
from typing import Final

from pushcluster_contract.limits import MIN_OUTBOXES_BYTES
from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.auth import AuthMode
from pushcluster_operator.spec.gateway import Gateway
from pushcluster_operator.spec.gateway_memory import count_needed_bytes
from pushcluster_operator.spec.model import PushClusterSpec
from pushcluster_operator.status.conditions import Condition

MEBIBYTE: Final = 1_048_576
REGISTERED_BYTES: Final = 1_024
"""Memory of the same session in Redis, without any message."""


def build_auth_warnings(gateway: Gateway) -> tuple[Condition, ...]:
    """Return the warnings about authentication. Each says what to do next."""
    warnings: list[Condition] = []
    if gateway.auth.mode is AuthMode.TRUSTED:
        warnings.append(_build_trusted())
        if not gateway.allowed_origins:
            warnings.append(_build_origins_unchecked())
    elif gateway.auth.algorithm.has_public_keys and not gateway.auth.audiences:
        warnings.append(_build_audiences_unchecked())
    return tuple(warnings)


def _build_trusted() -> Condition:
    return Condition(
        "AuthTrusted",
        "True",
        "NoProof",
        "gateways accept each client's user id without proof (gateway.auth.mode Trusted). Anybody who reaches a "
        "gateway can read anybody's messages. Set the mode to JWT, except in development",
    )


def _build_origins_unchecked() -> Condition:
    return Condition(
        "OriginsUnchecked",
        "True",
        "AnyOrigin",
        "gateways accept clients from any web page (gateway.auth.mode Trusted without gateway.allowedOrigins). A "
        "page that is opened in a browser inside your network can read anybody's messages. Set allowedOrigins to "
        "your pages",
    )


def _build_audiences_unchecked() -> Condition:
    return Condition(
        "AudiencesUnchecked",
        "True",
        "AnyAudience",
        "gateways accept any token of the issuer, also one that was made for another service. Whoever runs that "
        "service can use it here. Set gateway.auth.audiences to what the tokens for this service say in `aud`",
    )


def build_memory_warnings(spec: PushClusterSpec) -> tuple[Condition, ...]:
    """Return the warning about memory limits, if there is one. It says what to do next."""
    gateway, redis = spec.gateway, spec.redis
    needed = count_needed_bytes(gateway) + 2 * MIN_OUTBOXES_BYTES
    short = []
    if needed > quantities.parse(gateway.resources.memory_limit):
        short.append(
            f"a gateway with gateway.maxConnections ({gateway.max_connections}) clients takes about "
            f"{_mebibytes(needed)}, and is killed above gateway.resources.limits.memory "
            f"({gateway.resources.memory_limit}). Raise the limit, or lower maxConnections"
        )
    registered = gateway.replicas * gateway.max_connections * REGISTERED_BYTES
    if registered > quantities.parse(redis.max_memory):
        short.append(
            f"the sessions of {gateway.replicas} gateways with gateway.maxConnections ({gateway.max_connections}) "
            f"clients take about {_mebibytes(registered)} in Redis, which holds no more than redis.managed.maxMemory "
            f"({redis.max_memory}). Redis then accepts no more messages. Raise maxMemory, or lower maxConnections"
        )
    return (Condition("MemoryShort", "True", "LimitsContradict", "; ".join(short)),) if short else ()


def _mebibytes(amount: Fraction | int) -> str:
    return f"{-(-amount // MEBIBYTE)}Mi"
