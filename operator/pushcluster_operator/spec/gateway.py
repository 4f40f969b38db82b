"""`spec.gateway`: how many gateways run, whom they accept, and how they authenticate clients.

CONTRIBUTING.md, "Add a `spec` field", lists every place that a new field touches.
"""

from dataclasses import dataclass
from typing import Final, Self

from pushcluster_contract import defaults
from pushcluster_contract.limits import MAX_SESSIONS_PER_USER, SESSIONS_PER_USER
from pushcluster_contract.origins import MAX_ORIGIN_CHARS, ORIGIN_PATTERN, ORIGIN_RULE
from pushcluster_operator.spec.auth import Auth
from pushcluster_operator.spec.reader import Reader
from pushcluster_operator.spec.resources import Resources, read_image

GATEWAY_RESOURCES: Final = Resources(cpu_request="50m", memory_request="64Mi", memory_limit="512Mi")


@dataclass(frozen=True, slots=True)
class Gateway:
    """`spec.gateway`."""

    replicas: int
    max_connections: int
    max_sessions_per_user: int
    handshakes_per_second: int
    drain_seconds: int
    auth: Auth
    allowed_origins: tuple[str, ...]
    image: str | None
    resources: Resources

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Return `spec.gateway`. Raise InvalidSpec."""
        drain = reader.child("drain")
        gateway = cls(
            replicas=reader.integer("replicas", 2, minimum=0, maximum=500),
            max_connections=reader.integer("maxConnections", defaults.MAX_CONNECTIONS, minimum=1, maximum=200_000),
            max_sessions_per_user=reader.integer(
                "maxSessionsPerUser", SESSIONS_PER_USER, minimum=1, maximum=MAX_SESSIONS_PER_USER
            ),
            handshakes_per_second=reader.integer("handshakesPerSecond", 500, minimum=0, maximum=100_000),
            drain_seconds=drain.integer("seconds", defaults.DRAIN_S, minimum=0, maximum=3_600),
            auth=Auth.read(reader.child("auth")),
            allowed_origins=reader.texts(
                "allowedOrigins",
                pattern=ORIGIN_PATTERN,
                maximum=MAX_ORIGIN_CHARS,
                most=64,
                rule=ORIGIN_RULE,
            ),
            image=read_image(reader),
            resources=Resources.read(reader.child("resources"), GATEWAY_RESOURCES),
        )
        drain.finish()
        reader.finish()
        return gateway
