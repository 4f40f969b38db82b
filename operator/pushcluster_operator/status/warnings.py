"""The conditions that warn: nothing is broken, but what the spec lets in may surprise somebody later."""

from fractions import Fraction
from typing import Final

from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.auth import AuthMode
from pushcluster_operator.spec.gateway import Gateway
from pushcluster_operator.spec.model import PushClusterSpec
from pushcluster_operator.status.conditions import Condition

MEBIBYTE: Final = 1_048_576
GATEWAY_BASE_BYTES: Final = 64 * MEBIBYTE
"""A gateway that nobody is connected to."""
CONNECTION_BYTES: Final = 8_192
"""An idle session with a subscription, in its gateway: 5.2 KB are measured (docs/benchmarks.md)."""
REGISTERED_BYTES: Final = 1_024
"""The same in Redis, without any message."""


def build_auth_warnings(gateway: Gateway) -> tuple[Condition, ...]:
    """Return them; each says how to mend it."""
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
        "clients are believed to be whom they say they are (gateway.auth.mode Trusted): anybody who reaches a gateway "
        "can read anybody's messages. Set the mode to JWT outside development",
    )


def _build_origins_unchecked() -> Condition:
    return Condition(
        "OriginsUnchecked",
        "True",
        "AnyOrigin",
        "any web page can read anybody's messages once it is opened in a browser that reaches a gateway, also where "
        "no stranger does (gateway.auth.mode Trusted without gateway.allowedOrigins). Set allowedOrigins to your pages",
    )


def _build_audiences_unchecked() -> Condition:
    return Condition(
        "AudiencesUnchecked",
        "True",
        "AnyAudience",
        "any token of the issuer comes in, also one that was made for another service, and whoever runs that service "
        "can use it here. Set gateway.auth.audiences to what the tokens for this service say in `aud`",
    )


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
