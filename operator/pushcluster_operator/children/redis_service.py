"""Service `<cluster>-redis`. With an address of its own: it stays the same when the pod gets a new one."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.redis_config import REDIS_PORT
from pushcluster_operator.children.service import build_service
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest:
    """Build the Service."""
    return build_service(inputs, inputs.names.redis, Component.REDIS, {"redis": (REDIS_PORT, "redis")})
