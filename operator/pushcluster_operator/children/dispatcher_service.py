"""Service `<cluster>-dispatcher`: the HTTP API."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.service import build_service
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest | None:
    """Build the Service; none when the API is off."""
    if not inputs.cluster.spec.dispatcher.api_enabled:
        return None
    return build_service(inputs, inputs.names.dispatcher, Component.DISPATCHER, {"http": (80, "http")})
