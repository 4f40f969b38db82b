"""One PushCluster: who it is, and what it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from pushcluster_operator.spec.model import PushClusterSpec, check_name

API_GROUP: Final = "pushcluster.dev"
API_VERSION: Final = "pushcluster.dev/v1alpha1"
KIND: Final = "PushCluster"
PLURAL: Final = "pushclusters"
PAUSED_ANNOTATION: Final = "pushcluster.dev/paused"
"""`true`: the operator leaves the children as they are. It still updates the status and removes stale sessions."""


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """The part of a PushCluster that can be read even if its spec cannot."""

    namespace: str
    name: str
    uid: str
    generation: int
    paused: bool = False
    deleting: bool = False

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read `metadata`."""
        metadata = body["metadata"]
        return cls(
            namespace=metadata.get("namespace", "default"),
            name=metadata["name"],
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 0),
            paused=(metadata.get("annotations") or {}).get(PAUSED_ANNOTATION) == "true",
            deleting="deletionTimestamp" in metadata,
        )

    @property
    def id(self) -> str:
        """`<namespace>.<name>`: the name in Redis keys, and the vhost."""
        return f"{self.namespace}.{self.name}"


@dataclass(frozen=True, slots=True)
class PushCluster:
    """A PushCluster with a valid spec."""

    identity: ClusterIdentity
    spec: PushClusterSpec
    unknown_fields: tuple[str, ...] = ()
    """Paths such as `spec.gateway.new` that a newer custom resource definition has and this program does not know."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Return a PushCluster from a file. Raise InvalidSpec, also for an unknown field."""
        return cls._read(body, None)

    @classmethod
    def from_api(cls, body: Mapping[str, Any]) -> Self:
        """Return a PushCluster as the API server has it. Raise InvalidSpec.

        The API server has dropped fields that its definition does not know. A field that is unknown here comes from a
        newer definition, maybe as a default. It must not stop an operator that will be upgraded next.
        """
        return cls._read(body, [])

    @classmethod
    def _read(cls, body: Mapping[str, Any], unknown: list[str] | None) -> Self:
        identity = ClusterIdentity.from_body(body)
        check_name(identity.name)
        spec = PushClusterSpec.from_body(body, unknown)
        return cls(identity, spec, tuple(unknown or ()))
