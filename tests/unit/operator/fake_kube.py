# ruff: noqa: ARG002  # one namespace is enough for a test
"""An API server in memory: enough of it for the reconciler, and a record of every write."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.manifest import Manifest, ObjectKey, key_of


class FakeKube(KubeClient):
    """Objects of one namespace. Applying merges fields; unlike the real one it knows no field managers."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, Manifest] = {}
        self.writes: list[str] = []
        self.events: list[Manifest] = []
        self.down = False
        self.refuses: set[str] = set()
        """Kinds that the API server does not accept."""
        self.conflicts: set[str] = set()
        """Kinds whose objects somebody changes before every write."""
        self.calls: list[str] = []
        self.version = "v1.34.4"
        self._version = 0

    def put(self, manifest: Manifest) -> Manifest:
        """Do what somebody else does: make or replace an object."""
        self._version += 1
        metadata = {"uid": f"uid-{self._version}", **manifest["metadata"], "resourceVersion": str(self._version)}
        self.objects[key_of(manifest)] = {**copy.deepcopy(manifest), "metadata": metadata}
        return self.objects[key_of(manifest)]

    def remove(self, kind: str, name: str) -> None:
        """Do what somebody else does: delete an object."""
        del self.objects[ObjectKey(kind, name)]

    def at(self, kind: str, name: str) -> Manifest:
        return self.objects[ObjectKey(kind, name)]

    def edit(self, kind: str, name: str, **fields: Any) -> None:
        """Do what somebody else does: merge fields into an object."""
        self.put(_merged(self.at(kind, name), fields))

    @property
    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events]

    async def get_version(self) -> str:
        self._answer("get version")
        return self.version

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        self._answer(f"get {kind} {name}")
        return copy.deepcopy(self.objects.get(ObjectKey(kind, name)))

    async def list_objects(self, kind: str, namespace: str | None, selector: str = "") -> list[Manifest]:
        self._answer(f"list {kind} {selector}")
        wanted = [term.split("=") for term in selector.split(",") if term]
        return [
            copy.deepcopy(item)
            for key, item in self.objects.items()
            if key.kind == kind and all((item["metadata"].get("labels") or {}).get(k) == v for k, v in wanted)
        ]

    async def apply(self, manifest: Manifest, uid: str | None) -> Manifest:
        self._answer(f"apply {key_of(manifest)}")
        if manifest["kind"] in self.refuses:
            raise Refused(f"{manifest['kind']} is refused")
        if manifest["kind"] in self.conflicts:
            raise Conflict(f"{manifest['kind']} changed meanwhile")
        found = self.objects.get(key_of(manifest))
        if uid is not None and (found is None or found["metadata"]["uid"] != uid):
            raise Conflict("not the object that was looked at")
        self.writes.append(f"apply {key_of(manifest)}")
        return copy.deepcopy(self.put(_merged(found or {}, manifest)))

    async def merge(self, manifest: Manifest, uid: str) -> Manifest:
        if self.objects[key_of(manifest)]["metadata"]["uid"] != uid:
            raise Conflict("not the object that was looked at")
        self.writes.append(f"merge {key_of(manifest)}")
        return copy.deepcopy(self.put(_merged(self.objects[key_of(manifest)], manifest, whole_lists=True)))

    async def set_managed_fields(self, live: Mapping[str, Any], managed_fields: Sequence[Manifest]) -> Manifest:
        found = self.objects[key_of(live)]
        if found["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        self.writes.append(f"set managed fields {key_of(live)}")
        metadata = {**found["metadata"], "managedFields": [*managed_fields]}
        return copy.deepcopy(self.put({**found, "metadata": metadata}))

    async def merge_status(self, kind: str, namespace: str, name: str, status: Manifest) -> Manifest:
        self._answer(f"status {kind} {name}")
        self.writes.append(f"status {kind} {name}")
        found = self.at(kind, name)
        return copy.deepcopy(self.put({**found, "status": _merged(found.get("status", {}), status, whole_lists=True)}))

    async def create(self, manifest: Manifest) -> Manifest:
        self._answer(f"create {key_of(manifest)}")
        if manifest["kind"] == "Event":
            self.events.append(manifest)
            return manifest
        if manifest["kind"] in self.refuses:
            raise Refused(f"{manifest['kind']} is refused")
        if key_of(manifest) in self.objects:
            raise Conflict("exists")
        return copy.deepcopy(self.put(manifest))

    async def replace(self, manifest: Manifest) -> Manifest:
        self._answer(f"replace {key_of(manifest)}")
        if self.objects[key_of(manifest)]["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        return copy.deepcopy(self.put(manifest))

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        self._answer(f"delete {kind} {name}")
        self.writes.append(f"delete {kind} {name}")
        self.objects.pop(ObjectKey(kind, name), None)

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise Unavailable("the API server is down")


def _merged(base: Any, over: Any, *, whole_lists: bool = False) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: _merged(base.get(k), v, whole_lists=whole_lists) for k, v in over.items()}}
    if isinstance(base, list) and isinstance(over, list) and not whole_lists:
        # As a server-side apply merges a list with keys: entries of others stay.
        names = [item.get("name") for item in over if isinstance(item, dict)]
        return over + [item for item in base if isinstance(item, dict) and item.get("name") not in names]
    return copy.deepcopy(over)
