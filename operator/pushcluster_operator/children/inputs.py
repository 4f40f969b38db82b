"""What the children are built from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pushcluster_contract import env
from pushcluster_contract.version import VERSION
from pushcluster_operator.kube.credentials import Credentials
from pushcluster_operator.kube.labels import Component, build_labels
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.kube.names import Names
from pushcluster_operator.spec.pushcluster import API_VERSION, KIND, PushCluster


@dataclass(frozen=True, slots=True)
class Images:
    """The images for pods if the PushCluster names none."""

    gateway: str
    dispatcher: str
    rabbitmq: str
    redis: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Return the images that the operator's variables name. A missing variable means the public image."""
        return cls(
            gateway=environ.get(env.IMAGE_GATEWAY) or f"pushcluster/gateway:{VERSION}",
            dispatcher=environ.get(env.IMAGE_DISPATCHER) or f"pushcluster/dispatcher:{VERSION}",
            rabbitmq=environ.get(env.IMAGE_RABBITMQ) or "rabbitmq:4.3",
            redis=environ.get(env.IMAGE_REDIS) or "redis:8",
        )


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a child depends on. The same inputs always give the same children."""

    cluster: PushCluster
    credentials: Credentials
    images: Images
    producer_released: bool
    """Whether producers may get their credentials: every binding exists. A ready dispatcher is the proof."""

    @property
    def names(self) -> Names:
        """The children's names."""
        return Names.of(self.cluster.identity)

    def metadata(self, name: str, component: Component) -> Manifest:
        """Return the metadata of a child: its labels, and the owner with which Kubernetes deletes it."""
        identity = self.cluster.identity
        return {
            "name": name,
            "namespace": identity.namespace,
            "labels": build_labels(identity, component),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": identity.name,
                    "uid": identity.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        }
