"""The children of a PushCluster: one file a child, each with a pure `build`; here is their order."""

from collections.abc import Callable
from typing import Final

from pushcluster_operator.children import (
    api_secret,
    connections_secret,
    dispatcher_account,
    dispatcher_budget,
    dispatcher_deployment,
    dispatcher_service,
    gateway_account,
    gateway_budget,
    gateway_deployment,
    gateway_service,
    jwt_secret,
    producer_secret,
    rabbitmq_config,
    rabbitmq_nodes_service,
    rabbitmq_secret,
    rabbitmq_service,
    rabbitmq_statefulset,
    redis_config,
    redis_secret,
    redis_service,
    redis_statefulset,
)
from pushcluster_operator.children.inputs import Images, Inputs
from pushcluster_operator.kube.credentials import Credentials
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec.pushcluster import PushCluster

BUILDERS: Final[tuple[Callable[[Inputs], Manifest | None], ...]] = (
    # What pods read at their start comes before them; the stores, which take longest, before their users.
    rabbitmq_secret.build,
    redis_secret.build,
    rabbitmq_config.build,
    redis_config.build,
    rabbitmq_nodes_service.build,
    rabbitmq_service.build,
    rabbitmq_statefulset.build,
    redis_service.build,
    redis_statefulset.build,
    connections_secret.build,
    jwt_secret.build,
    api_secret.build,
    gateway_account.build,
    gateway_service.build,
    gateway_budget.build,
    gateway_deployment.build,
    dispatcher_account.build,
    dispatcher_service.build,
    dispatcher_budget.build,
    dispatcher_deployment.build,
    producer_secret.build,
)


def build_children(
    cluster: PushCluster, credentials: Credentials, images: Images, *, producer_released: bool = True
) -> list[Manifest]:
    """Return the children that `cluster` wants, in the order in which they are applied."""
    inputs = Inputs(cluster, credentials, images, producer_released)
    return [child for build in BUILDERS if (child := build(inputs)) is not None]


__all__ = ["BUILDERS", "Credentials", "Images", "Inputs", "PushCluster", "build_children"]
