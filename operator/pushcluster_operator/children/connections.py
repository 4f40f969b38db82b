"""How to reach RabbitMQ and Redis: Secret `<cluster>-connections` for our pods, `<cluster>-producer` for producers."""

from urllib.parse import quote

from pushcluster_operator.children import common
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.rabbitmq import AMQP_PORT, INTERNAL_USER, PRODUCER_USER
from pushcluster_operator.children.redis import REDIS_PORT
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build_secret(inputs: Inputs) -> Manifest:
    """Build the Secret."""
    return common.build_secret(
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


def build_producer_secret(inputs: Inputs) -> Manifest | None:
    """Build the Secret. None until all bindings exist: before that, a message could be lost on its way to a queue."""
    if not inputs.producer_released:
        return None
    password = inputs.credentials.producer_password
    return common.build_secret(
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
