"""Secret `<cluster>-producer`: all that a back end needs to publish over AMQP."""

from pushcluster_operator.children.connections_secret import amqp_url
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.rabbitmq_config import AMQP_PORT
from pushcluster_operator.children.rabbitmq_secret import PRODUCER_USER
from pushcluster_operator.children.secret import build_secret
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest | None:
    """Build the Secret; none before all bindings exist, when a publish could still go nowhere."""
    if not inputs.producer_released:
        return None
    password = inputs.credentials.producer_password
    return build_secret(
        inputs,
        inputs.names.producer,
        Component.RABBITMQ,
        {
            "url": amqp_url(inputs, PRODUCER_USER, password),
            "username": PRODUCER_USER,
            "password": password,
            "host": inputs.names.rabbitmq_host,
            "port": str(AMQP_PORT),
            "vhost": inputs.cluster.identity.id,
        },
    )
