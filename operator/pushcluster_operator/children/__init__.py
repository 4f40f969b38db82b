"""The children of a PushCluster, one module for each component. BUILDERS is the order in which they are applied.

Use `build_children`; every builder is pure, and returns one object or None.
"""

from collections.abc import Callable
from typing import Final

from pushcluster_operator.children import connections, dispatcher, gateway, rabbitmq, redis
from pushcluster_operator.children.inputs import Images, Inputs
from pushcluster_operator.kube.credentials import Credentials
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec.pushcluster import PushCluster

BUILDERS: Final[tuple[Callable[[Inputs], Manifest | None], ...]] = (
    # What pods read when they start comes before the pods. The stores take longest, so they come before their users.
    rabbitmq.build_secret,
    redis.build_secret,
    rabbitmq.build_config,
    redis.build_config,
    rabbitmq.build_nodes_service,
    rabbitmq.build_service,
    rabbitmq.build_statefulset,
    redis.build_service,
    redis.build_statefulset,
    connections.build_secret,
    gateway.build_jwt_secret,
    dispatcher.build_api_secret,
    gateway.build_account,
    gateway.build_service,
    gateway.build_budget,
    gateway.build_deployment,
    dispatcher.build_account,
    dispatcher.build_service,
    dispatcher.build_budget,
    dispatcher.build_deployment,
    connections.build_producer_secret,
)


def build_children(
    cluster: PushCluster, credentials: Credentials, images: Images, *, producer_released: bool = True
) -> list[Manifest]:
    """Return the children that `cluster` wants, in the order in which they are applied."""
    inputs = Inputs(cluster, credentials, images, producer_released)
    return [child for build in BUILDERS if (child := build(inputs)) is not None]


__all__ = ["BUILDERS", "Credentials", "Images", "Inputs", "PushCluster", "build_children"]
