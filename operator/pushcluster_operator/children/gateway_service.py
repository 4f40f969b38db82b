"""Service `<cluster>-gateway`: where WebSocket clients connect."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.service import build_service
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest:
    """Build the Service."""
    return build_service(inputs, inputs.names.gateway, Component.GATEWAY, {"ws": (80, "ws")})
