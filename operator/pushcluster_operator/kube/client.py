"""The client of the Kubernetes API. It takes and returns plain JSON, and its errors say who can fix them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio import client, config

from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.kube.ownership import FIELD_MANAGER
from pushcluster_operator.spec.pushcluster import API_VERSION, KIND, PLURAL

REQUEST_TIMEOUT_S: Final = 10
LIST_PAGE: Final = 500

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Resource:
    """The API path of one kind of object."""

    api_version: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, *subresource: str) -> str:
        """Return the URL's path. None for `namespace` means all namespaces."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        parts = [root]
        if namespace is not None:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        return "/".join([*parts, *subresource])


RESOURCES: Final[Mapping[str, Resource]] = {
    "ConfigMap": Resource("v1", "configmaps"),
    "Deployment": Resource("apps/v1", "deployments"),
    "Event": Resource("v1", "events"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
    "PersistentVolumeClaim": Resource("v1", "persistentvolumeclaims"),
    "Pod": Resource("v1", "pods"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    KIND: Resource(API_VERSION, PLURAL),
    "Secret": Resource("v1", "secrets"),
    "Service": Resource("v1", "services"),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
    "StatefulSet": Resource("apps/v1", "statefulsets"),
}


class KubeClient:
    """Requests to the API server. Every method raises only Conflict, Refused or Unavailable."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> Self:
        """Return a client for the cluster that this process runs in. Outside of one, use the kubeconfig."""
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get_version(self) -> str:
        """Return the API server's version, such as v1.34.4."""
        return str((await self._request("GET", "/version")).get("gitVersion", ""))

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if it does not exist."""
        try:
            return await self._request("GET", RESOURCES[kind].path(namespace, name))
        except Conflict:
            return None

    async def list_objects(self, kind: str, namespace: str | None, selector: str = "") -> list[Manifest]:
        """Return the objects as they are now. Without a resourceVersion, the API server never answers with old ones."""
        query = [("limit", str(LIST_PAGE))] + ([("labelSelector", selector)] if selector else [])
        items: list[Manifest] = []
        continuation = ""
        while True:
            page = query + ([("continue", continuation)] if continuation else [])
            answer = await self._request("GET", RESOURCES[kind].path(namespace), query=page)
            resource = RESOURCES[kind]
            if not str(answer.get("kind", "")).endswith("List") or "items" not in answer:
                # An empty list would mean that everything is gone, so anything else must not be taken for one.
                raise Unavailable(f"GET {resource.path(namespace)}: the answer is not a list")
            items += [{"apiVersion": resource.api_version, "kind": kind, **item} for item in answer["items"] or []]
            continuation = answer.get("metadata", {}).get("continue", "")
            if not continuation:
                return items

    async def apply(self, manifest: Manifest, uid: str | None) -> Manifest:
        """Apply server-side and return the object. `uid` fences the write to the live object that was read.

        Without a `uid`, no object should exist. Fields that another manager owns are then not taken over, and Conflict
        is raised.
        """
        query = [("fieldManager", FIELD_MANAGER)]
        if uid is not None:
            manifest = _fenced(manifest, uid)
            query.append(("force", "true"))
        return await self._request("PATCH", _path_of(manifest), query=query, body=manifest, content_type=_APPLY)

    async def merge(self, manifest: Manifest, uid: str) -> Manifest:
        """Merge into the object with this uid, and return it. Lists are replaced as a whole."""
        query, body = [("fieldManager", FIELD_MANAGER)], _fenced(manifest, uid)
        return await self._request("PATCH", _path_of(manifest), query=query, body=body, content_type=_MERGE)

    async def set_managed_fields(self, live: Mapping[str, Any], managed_fields: Sequence[Manifest]) -> Manifest:
        """Replace the record of who has set which field, and return the object. Nothing else of it changes.

        Raise Conflict if the object has changed since it was read.
        """
        metadata = live["metadata"]
        patch = [
            # A version that is not the object's own is a conflict. A failed `test` would be a refusal.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": list(managed_fields)},
        ]
        return await self._request("PATCH", _path_of(live), body=patch, content_type=_JSON_PATCH)

    async def merge_status(self, kind: str, namespace: str, name: str, status: Manifest) -> Manifest:
        """Merge into the object's status, and return the object. Lists are replaced as a whole."""
        path = RESOURCES[kind].path(namespace, name, "status")
        query = [("fieldManager", FIELD_MANAGER)]
        return await self._request("PATCH", path, query=query, body={"status": status}, content_type=_MERGE)

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object. Raise Conflict if it exists already."""
        path = RESOURCES[manifest["kind"]].path(manifest["metadata"]["namespace"])
        return await self._request("POST", path, query=[("fieldManager", FIELD_MANAGER)], body=manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object. Raise Conflict if its resourceVersion is no longer the one given."""
        return await self._request("PUT", _path_of(manifest), query=[("fieldManager", FIELD_MANAGER)], body=manifest)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid, and in the background what it owns. One that is gone already is no error."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        try:
            await self._request("DELETE", RESOURCES[kind].path(namespace, name), body=body)
        except Conflict:
            return

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Manifest | list[Manifest] | None = None,
        content_type: str = _JSON,
    ) -> Manifest:
        headers = {"Accept": _JSON, "Content-Type": content_type}
        try:
            request = await self._api.param_serialize(
                method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = await self._api.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
            raw: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (TimeoutError, aiohttp.ClientError, client.ApiException, OSError) as error:
            raise Unavailable(f"the API server does not answer {method} {path}: {error!r}") from error
        return _parse(response.status, raw, f"{method} {path}")


def _path_of(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    return RESOURCES[manifest["kind"]].path(metadata["namespace"], metadata["name"])


def _fenced(manifest: Manifest, uid: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}


def _parse(status: int, raw: bytes, request: str) -> Manifest:
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if 200 <= status < 300:
        if not isinstance(answer, dict):
            # Such as the page of a proxy: it was not the API server that answered.
            raise Unavailable(f"{request}: {status}, but the answer is not a JSON object")
        return answer
    if not isinstance(answer, dict):
        answer = {}
    message = f"{request}: {status} {answer.get('message', '')}"
    if status in {404, 409, 410}:
        raise Conflict(message)
    if status in {400, 403, 405, 413, 415, 422}:
        raise Refused(message)
    raise Unavailable(message)
