"""Secret `<cluster>-connections`: the URLs by which gateways and dispatchers reach RabbitMQ and Redis."""

from urllib.parse import quote

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.rabbitmq_config import AMQP_PORT
from pushcluster_operator.children.rabbitmq_secret import INTERNAL_USER
from pushcluster_operator.children.redis_config import REDIS_PORT
from pushcluster_operator.children.secret import build_secret
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest:
    """Build the Secret."""
    return build_secret(
        inputs,
        inputs.names.connections,
        Component.CLUSTER,
        {
            "amqp-url": amqp_url(inputs, INTERNAL_USER, inputs.credentials.rabbitmq_password),
            "redis-url": redis_url(inputs),
        },
    )


def amqp_url(inputs: Inputs, user: str, password: str) -> str:
    """Return `amqp://user:password@host:5672/<vhost>`."""
    vhost = quote(inputs.cluster.identity.id, safe="")
    return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@{inputs.names.rabbitmq_host}:{AMQP_PORT}/{vhost}"


def redis_url(inputs: Inputs) -> str:
    """Return `redis://:password@host:6379/0`."""
    return f"redis://:{quote(inputs.credentials.redis_password, safe='')}@{inputs.names.redis_host}:{REDIS_PORT}/0"
