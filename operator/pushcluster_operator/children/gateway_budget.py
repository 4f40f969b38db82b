"""PodDisruptionBudget `<cluster>-gateway`."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.service import build_budget
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest | None:
    """Build the PodDisruptionBudget; none for a single replica."""
    return build_budget(inputs, inputs.names.gateway, Component.GATEWAY, inputs.cluster.spec.gateway.replicas)
