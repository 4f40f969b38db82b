"""What a too old Kubernetes, RabbitMQ or Redis means for a PushCluster, and what to do about it."""

from pushcluster_contract.errors import TooOld
from pushcluster_operator.status.pods import Trouble


def describe_old_rabbitmq(error: TooOld) -> Trouble:
    """Return the trouble of a broker that is too old."""
    return _describe_old_store("RabbitMQ", "rabbitmq", error)


def describe_old_redis(error: TooOld) -> Trouble:
    """Return the trouble of a Redis that is too old."""
    return _describe_old_store("Redis", "redis", error)


def _describe_old_store(product: str, part: str, error: TooOld) -> Trouble:
    image = f"spec.{part}.managed.image"
    return Trouble(
        f"{product}TooOld",
        f"{error}, so gateways and dispatchers do not work with it. Name a newer image in {image}, "
        "or remove that field to get the image that the operator was installed with",
    )
