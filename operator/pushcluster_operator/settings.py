"""The operator's settings, from its environment."""

from dataclasses import dataclass
from typing import Final, Self

from pushcluster_contract import env
from pushcluster_operator.children.inputs import Images
from pushcluster_runtime.settings import EnvironmentVariables

DEFAULT_ADMIN_PORT: Final = 9_090


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one operator process."""

    namespace: str
    """Where the operator itself runs. Its Lease and its canary are here too."""
    pod_name: str
    watch_namespaces: tuple[str, ...]
    """Empty: all namespaces."""
    listen_host: str
    admin_port: int
    images: Images

    @classmethod
    def parse(cls, environment: EnvironmentVariables) -> Self:
        """Return the settings. Raise InvalidInput, which names the variable that is wrong."""
        return cls(
            namespace=environment.text(env.OPERATOR_NAMESPACE),
            pod_name=environment.text(env.POD_NAME),
            watch_namespaces=tuple(environment.text(env.WATCH_NAMESPACES, " ").split()),
            listen_host=environment.text(env.LISTEN_HOST, "0.0.0.0"),  # noqa: S104  # a pod's own network
            admin_port=environment.port(env.ADMIN_PORT, DEFAULT_ADMIN_PORT),
            images=Images.from_environment(environment.variables),
        )
