"""Decides what to do about the children, from the desired and the live ones. It changes nothing itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pushcluster_operator.kube import labels
from pushcluster_operator.kube.drift import is_drifted
from pushcluster_operator.kube.manifest import (
    Manifest,
    ObjectKey,
    digest,
    key_of,
)
from pushcluster_operator.kube.ownership import find_leftovers, is_set_by_operator
from pushcluster_operator.spec.pushcluster import ClusterIdentity

KEPT_KINDS: Final = frozenset({"Secret"})
"""Never deleted while the PushCluster exists: if an edit that made a key unwanted is taken back, the key must still be
there. Kubernetes deletes these children with their owner."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What was last applied to an object, and the resourceVersion after it."""

    digest: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Create an object, or correct it."""

    manifest: Manifest
    uid: str | None
    """The uid of the live object to correct. None: the object does not exist."""
    restores: bool = False
    """Whether somebody deleted or edited what had been applied."""
    adopts: bool = False
    """Whether the live object is an orphan."""
    live: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The live object to correct."""

    @property
    def key(self) -> ObjectKey:
        """The object's kind and name."""
        return key_of(self.manifest)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object that is no longer wanted."""

    key: ObjectKey
    uid: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which to run them, and names that other objects have taken."""

    steps: tuple[Apply | Delete, ...]
    conflicts: tuple[ObjectKey, ...]


def plan_children(
    desired: Iterable[Manifest],
    live: Mapping[ObjectKey, Mapping[str, Any]],
    identity: ClusterIdentity,
    remembered: Mapping[ObjectKey, Applied],
) -> Plan:
    """Decide which children to apply and which to delete.

    `live` holds every object that is labelled as a child of this PushCluster or has the name of a desired one.
    Orphans are adopted. Other objects that this PushCluster does not control are neither changed nor deleted.
    """
    steps: list[Apply | Delete] = []
    conflicts: list[ObjectKey] = []
    wanted: set[ObjectKey] = set()
    for manifest in desired:
        key = key_of(manifest)
        wanted.add(key)
        found = live.get(key)
        orphaned = found is not None and is_orphan(found, identity)
        if found is not None and not orphaned and not is_controlled(found, identity):
            conflicts.append(key)
        elif step := _plan_one(manifest, found, remembered.get(key)):
            steps.append(replace(step, adopts=orphaned))
    steps += [
        Delete(key, found["metadata"]["uid"])
        for key, found in live.items()
        if key not in wanted and key.kind not in KEPT_KINDS and is_controlled(found, identity) and not _leaving(found)
    ]
    return Plan(tuple(steps), tuple(conflicts))


def needs_apply(manifest: Manifest, live: Mapping[str, Any]) -> bool:
    """Return whether the live object lacks a desired field, or still has one that is no longer desired.

    In a Secret, the latter is no reason to write: what is in it may be in use until the programs that read it are new.
    """
    return is_drifted(manifest, live) or (manifest["kind"] != "Secret" and bool(find_leftovers(manifest, live)))


def is_controlled(manifest: Mapping[str, Any], identity: ClusterIdentity) -> bool:
    """Return whether this PushCluster is the object's controller. Its UID counts, not its name."""
    owners = manifest["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner.get("uid") == identity.uid for owner in owners)


def is_orphan(manifest: Mapping[str, Any], identity: ClusterIdentity) -> bool:
    """Return whether the object was a child of a former PushCluster of this name that was deleted without its children.

    It has the name in its label, fields that the operator has set, and no controller.
    """
    metadata = manifest["metadata"]
    return (
        (metadata.get("labels") or {}).get(labels.CLUSTER) == identity.name
        and is_set_by_operator(manifest)
        and not any(owner.get("controller") for owner in metadata.get("ownerReferences") or ())
    )


def _plan_one(manifest: Manifest, found: Mapping[str, Any] | None, remembered: Applied | None) -> Apply | None:
    wanted = digest(manifest)
    if found is None:
        return Apply(manifest, None, restores=remembered is not None)
    if _leaving(found) or not needs_apply(manifest, found):
        return None
    unchanged = remembered is not None and remembered.digest == wanted
    if unchanged and remembered is not None and remembered.resource_version == found["metadata"]["resourceVersion"]:
        # The API server stores another form of what was applied. To apply it again would never end.
        return None
    return Apply(manifest, found["metadata"]["uid"], restores=unchanged and is_drifted(manifest, found), live=found)


def _leaving(manifest: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in manifest["metadata"]
