"""The operator's settings, from its environment."""

from dataclasses import dataclass
from typing import Final, Self

from pushcluster_contract import env
from pushcluster_operator.children.inputs import Images
from pushcluster_runtime.settings import EnvironmentVariables

DEFAULT_ADMIN_PORT: Final = 9_090


@dataclass(frozen=True, slots=True)
class Settings:
    """What the Deployment says."""

    namespace: str
    """Where the operator itself runs, with its Lease and canary."""
    pod_name: str
    watch_namespaces: tuple[str, ...]
    """Empty: all."""
    listen_host: str
    admin_port: int
    images: Images

    @classmethod
    def parse(cls, environment: EnvironmentVariables) -> Self:
        """Read the variables; raises InvalidInput, which names the one that is wrong."""
        return cls(
            namespace=environment.text(env.OPERATOR_NAMESPACE),
            pod_name=environment.text(env.POD_NAME),
            watch_namespaces=tuple(environment.text(env.WATCH_NAMESPACES, " ").split()),
            listen_host=environment.text(env.LISTEN_HOST, "0.0.0.0"),  # noqa: S104  # a pod's own network
            admin_port=environment.port(env.ADMIN_PORT, DEFAULT_ADMIN_PORT),
            images=Images.from_environment(environment.variables),
        )
