"""The children's names: `<cluster>-<part>`."""

from dataclasses import dataclass
from typing import Self

from pushcluster_operator.spec.pushcluster import ClusterIdentity


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one PushCluster's children."""

    namespace: str
    cluster: str

    @classmethod
    def of(cls, identity: ClusterIdentity) -> Self:
        """Return the names of a PushCluster's children."""
        return cls(identity.namespace, identity.name)

    @property
    def gateway(self) -> str:
        """Deployment, Service, ServiceAccount and PodDisruptionBudget."""
        return f"{self.cluster}-gateway"

    @property
    def dispatcher(self) -> str:
        """Deployment, Service, ServiceAccount and PodDisruptionBudget."""
        return f"{self.cluster}-dispatcher"

    @property
    def rabbitmq(self) -> str:
        """StatefulSet, Service, ConfigMap and Secret."""
        return f"{self.cluster}-rabbitmq"

    @property
    def rabbitmq_nodes(self) -> str:
        """Headless Service, which gives RabbitMQ's nodes their names."""
        return f"{self.cluster}-rabbitmq-nodes"

    @property
    def redis(self) -> str:
        """StatefulSet, Service, ConfigMap and Secret."""
        return f"{self.cluster}-redis"

    @property
    def connections(self) -> str:
        """Secret: how our own pods reach RabbitMQ and Redis."""
        return f"{self.cluster}-connections"

    @property
    def jwt(self) -> str:
        """Secret: the generated key that signs JWTs."""
        return f"{self.cluster}-jwt"

    @property
    def api(self) -> str:
        """Secret: the keys of the HTTP API."""
        return f"{self.cluster}-api"

    @property
    def producer(self) -> str:
        """Secret: how producers reach RabbitMQ."""
        return f"{self.cluster}-producer"

    @property
    def rabbitmq_host(self) -> str:
        """The broker's name inside the Kubernetes cluster."""
        return f"{self.rabbitmq}.{self.namespace}.svc"

    @property
    def redis_host(self) -> str:
        """The name of Redis inside the Kubernetes cluster."""
        return f"{self.redis}.{self.namespace}.svc"
