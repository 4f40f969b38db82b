"""Service `<cluster>-rabbitmq`: AMQP for gateways, dispatchers and producers."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.rabbitmq_config import AMQP_PORT, METRICS_PORT
from pushcluster_operator.children.service import build_service
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest:
    """Build the Service."""
    ports = {"amqp": (AMQP_PORT, "amqp"), "metrics": (METRICS_PORT, "metrics")}
    return build_service(inputs, inputs.names.rabbitmq, Component.RABBITMQ, ports)
