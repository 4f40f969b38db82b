"""The state of a component's workload, from the workload, its pods and its volume claims."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pushcluster_operator.status.pods import (
    Trouble,
    find_claim_troubles,
    find_creation_trouble,
    find_troubles,
)


@dataclass(frozen=True, slots=True)
class Workload:
    """The state of one component."""

    desired: int
    replicas: int
    """Pods that exist, without those that are being deleted."""
    ready: int
    rolled_out: bool
    """Whether the workload's controller has seen the newest template and every pod has it."""
    troubles: tuple[Trouble, ...]

    @property
    def is_complete(self) -> bool:
        """Whether as many pods as desired are ready, all of them with the newest template."""
        return self.rolled_out and self.ready >= self.desired

    def with_trouble(self, trouble: Trouble | None) -> Self:
        """Return the same with one more trouble. It comes first, because the others may follow from it."""
        return self if trouble is None else replace(self, troubles=(trouble, *self.troubles))


def observe(
    desired: int,
    workload: Mapping[str, Any] | None,
    pods: Iterable[Mapping[str, Any]],
    claims: Iterable[Mapping[str, Any]] = (),
) -> Workload:
    """Return the state of a Deployment or StatefulSet. None for `workload`: it does not exist yet."""
    if workload is None:
        return Workload(desired, 0, 0, rolled_out=False, troubles=())
    spec, status = workload.get("spec", {}), workload.get("status", {})
    current = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    replicas, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    rolled_out = current and spec.get("replicas") == desired and replicas <= updated >= desired
    ready = status.get("readyReplicas", 0)
    troubles = find_creation_trouble(workload) + find_troubles(pods)
    if ready < desired:
        troubles += find_claim_troubles(claims)
    return Workload(desired, replicas, ready, rolled_out=rolled_out, troubles=troubles)
