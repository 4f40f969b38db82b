"""The gateway's settings, read once from the environment."""

from dataclasses import dataclass, field
from typing import Self

from pushcluster_contract import defaults, env
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import check_cluster
from pushcluster_contract.limits import (
    MAX_OUTBOXES_BYTES,
    MAX_SESSIONS_PER_USER,
    MAX_SUBSCRIPTION_QUEUES,
    MIN_OUTBOXES_BYTES,
    OUTBOXES_BYTES,
    SESSIONS_PER_USER,
    SUBSCRIPTION_QUEUES,
)
from pushcluster_contract.origins import parse_origin
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway.auth.settings import AuthSettings
from pushcluster_runtime.settings import EnvironmentVariables


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a gateway."""

    cluster: str
    pod_name: str
    pod_uid: str
    amqp_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    routing_mode: RoutingMode
    auth: AuthSettings
    allowed_origins: tuple[str, ...]
    """Origins as browsers send them; empty: any origin."""
    listen_host: str
    ws_port: int
    admin_port: int
    max_connections: int
    max_sessions_per_user: int
    handshakes_per_second: int
    """0: no limit."""
    outboxes_bytes: int
    """What may wait for all clients together."""
    subscription_queues: int
    """Number of queues for all gateways together, in mode Session."""
    drain_seconds: int
    resume_window_seconds: int

    @classmethod
    def parse(cls, environment: EnvironmentVariables) -> Self:
        """Return the settings in the variables of `env`. Raise InvalidInput, which names the variable."""
        return cls(
            cluster=check_cluster(environment.text(env.CLUSTER)),
            pod_name=environment.text(env.POD_NAME),
            pod_uid=environment.text(env.POD_UID),
            amqp_url=environment.secret(env.AMQP_URL),
            redis_url=environment.secret(env.REDIS_URL),
            routing_mode=environment.choice(env.ROUTING_MODE, RoutingMode, RoutingMode.SESSION),
            auth=AuthSettings.parse(environment),
            allowed_origins=_parse_origins(environment),
            listen_host=environment.text(env.LISTEN_HOST, "0.0.0.0"),  # noqa: S104 - a pod's own network
            ws_port=environment.port(env.WS_PORT, 8080),
            admin_port=environment.port(env.ADMIN_PORT, 9090),
            max_connections=environment.integer(env.MAX_CONNECTIONS, defaults.MAX_CONNECTIONS, low=1, high=1_000_000),
            max_sessions_per_user=environment.integer(
                env.MAX_SESSIONS_PER_USER, SESSIONS_PER_USER, low=1, high=MAX_SESSIONS_PER_USER
            ),
            handshakes_per_second=environment.integer(env.HANDSHAKES_PER_SECOND, 0, low=0, high=100_000),
            outboxes_bytes=environment.integer(
                env.OUTBOXES_BYTES, OUTBOXES_BYTES, low=MIN_OUTBOXES_BYTES, high=MAX_OUTBOXES_BYTES
            ),
            subscription_queues=environment.integer(
                env.SUBSCRIPTION_QUEUES, SUBSCRIPTION_QUEUES, low=0, high=MAX_SUBSCRIPTION_QUEUES
            ),
            drain_seconds=environment.integer(env.DRAIN_SECONDS, defaults.DRAIN_S, low=0, high=3_600),
            resume_window_seconds=environment.integer(
                env.RESUME_WINDOW_SECONDS, defaults.RESUME_WINDOW_S, low=0, high=86_400
            ),
        )


def _parse_origins(environment: EnvironmentVariables) -> tuple[str, ...]:
    try:
        return tuple(map(parse_origin, environment.variables.get(env.ALLOWED_ORIGINS, "").split()))
    except InvalidInput as error:
        raise InvalidInput(f"{env.ALLOWED_ORIGINS}: {error}") from None
