"""The labels of all children, in one place."""

from enum import StrEnum
from typing import Final

from pushcluster_operator.spec.pushcluster import ClusterIdentity

CLUSTER: Final = "pushcluster.dev/cluster"
"""The PushCluster's name. Watches and LISTs select by it."""
COMPONENT: Final = "pushcluster.dev/component"


class Component(StrEnum):
    """The parts of a PushCluster."""

    CLUSTER = "cluster"
    RABBITMQ = "rabbitmq"
    REDIS = "redis"
    GATEWAY = "gateway"
    DISPATCHER = "dispatcher"


def build_labels(identity: ClusterIdentity, component: Component) -> dict[str, str]:
    """Return the labels of a child and of its pods."""
    return {
        "app.kubernetes.io/name": f"pushcluster-{component}",
        "app.kubernetes.io/instance": identity.name,
        "app.kubernetes.io/component": str(component),
        "app.kubernetes.io/part-of": "pushcluster",
        "app.kubernetes.io/managed-by": "pushcluster-operator",
        **build_selector(identity, component),
    }


def build_selector(identity: ClusterIdentity, component: Component) -> dict[str, str]:
    """Return the labels that select a component's pods. Never change them: selectors are immutable."""
    return {CLUSTER: identity.name, COMPONENT: str(component)}


def selector_text(identity: ClusterIdentity, component: Component) -> str:
    """Return the selector as text, as the scale subresource and LIST requests take it."""
    return ",".join(f"{key}={value}" for key, value in build_selector(identity, component).items())
