"""The dispatcher's settings, from its environment."""

from dataclasses import dataclass, field
from typing import Final, Self

from pushcluster_contract import defaults, env
from pushcluster_contract.api_keys import ApiKeys
from pushcluster_contract.ids import check_cluster
from pushcluster_contract.limits import META_EXTRA_TTL_MS, MIN_KEPT_DELIVERED_MS
from pushcluster_contract.routing import RoutingMode
from pushcluster_runtime.settings import EnvironmentVariables

DRAIN_TIMEOUT_S: Final = 10.0
"""How long a stopping dispatcher may finish what it has begun. The rest comes again to the next dispatcher."""
CONSUMER_TIMEOUT_S: Final = 1_800.0
"""How long RabbitMQ lets a dispatcher hold a message. Each consumer asks for it, so no policy makes it shorter."""

_MAX_TTL_S: Final = 90 * 86_400
_MAX_RESUME_S: Final = 86_400
_MAX_IDEMPOTENCY_S: Final = 86_400
_MAX_LOG_ENTRIES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how much a user's log keeps."""

    offline_ttl_ms: int
    max_entries: int
    resume_window_ms: int
    idempotency_window_ms: int
    """How long a producer's message id stays known after its last use."""

    @property
    def kept_delivered_ms(self) -> int:
        """How long an entry stays after it was delivered."""
        return max(self.resume_window_ms, MIN_KEPT_DELIVERED_MS)

    @property
    def meta_ttl_ms(self) -> int:
        """How long the log's sequence numbers outlive their last use."""
        return self.offline_ttl_ms + META_EXTRA_TTL_MS


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The HTTP API for producers."""

    port: int
    keys: ApiKeys


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one dispatcher."""

    cluster: str
    pod_name: str
    mode: RoutingMode
    retention: Retention
    listen_host: str
    admin_port: int
    api: ApiSettings | None
    amqp_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    consumer_timeout_s: float = CONSUMER_TIMEOUT_S

    @classmethod
    def from_environment(cls, environment: EnvironmentVariables) -> Self:
        """Return the settings. Raise InvalidInput, which names the first variable that is wrong."""
        api = None
        if environment.boolean(env.API_ENABLED, default=True):
            keys = ApiKeys.parse(environment.secret(env.API_KEY), name=env.API_KEY)
            api = ApiSettings(environment.port(env.API_PORT, 8080), keys)
        return cls(
            cluster=check_cluster(environment.text(env.CLUSTER)),
            pod_name=environment.text(env.POD_NAME),
            mode=environment.choice(env.ROUTING_MODE, RoutingMode, RoutingMode.SESSION),
            retention=_read_retention(environment),
            listen_host=environment.text(env.LISTEN_HOST, "0.0.0.0"),  # noqa: S104 - a pod is reached from outside
            admin_port=environment.port(env.ADMIN_PORT, 9090),
            api=api,
            amqp_url=environment.secret(env.AMQP_URL),
            redis_url=environment.secret(env.REDIS_URL),
        )


def _read_retention(environment: EnvironmentVariables) -> Retention:
    return Retention(
        offline_ttl_ms=1_000
        * environment.integer(env.OFFLINE_TTL_SECONDS, defaults.OFFLINE_TTL_S, low=1, high=_MAX_TTL_S),
        max_entries=environment.integer(
            env.OFFLINE_MAX_PER_DESTINATION, defaults.OFFLINE_MAX_PER_DESTINATION, low=1, high=_MAX_LOG_ENTRIES
        ),
        resume_window_ms=1_000
        * environment.integer(env.RESUME_WINDOW_SECONDS, defaults.RESUME_WINDOW_S, low=0, high=_MAX_RESUME_S),
        idempotency_window_ms=1_000
        * environment.integer(
            env.IDEMPOTENCY_WINDOW_SECONDS, defaults.IDEMPOTENCY_WINDOW_S, low=1, high=_MAX_IDEMPOTENCY_S
        ),
    )
