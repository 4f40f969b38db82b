"""Objects that the operator's tests start from."""

from typing import Any

from pushcluster_operator.children import Credentials, Images, PushCluster, build_children
from pushcluster_operator.kube.manifest import Manifest, ObjectKey, key_of
from pushcluster_operator.kube.names import Names

IMAGES = Images("gateway:1", "dispatcher:1", "rabbitmq:1", "redis:1")
NAMESPACE, NAME, UID = "team", "demo", "uid-1"


def entropy(size: int) -> bytes:
    """Return bytes that are no surprise."""
    return bytes(range(size))


def body(spec: dict[str, Any] | None = None, **metadata: Any) -> Manifest:
    """Return a PushCluster as the API server gives it."""
    return {
        "apiVersion": "pushcluster.dev/v1alpha1",
        "kind": "PushCluster",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": UID, "generation": 3, **metadata},
        "spec": spec or {},
    }


def cluster(spec: dict[str, Any] | None = None, **metadata: Any) -> PushCluster:
    return PushCluster.from_body(body(spec, **metadata))


def credentials(of: PushCluster | None = None) -> Credentials:
    return Credentials.recover(Names.of((of or cluster()).identity), {}, entropy)


def children(spec: dict[str, Any] | None = None, *, producer_released: bool = True) -> dict[str, Manifest]:
    """Return the children by `<kind>/<name>`."""
    of = cluster(spec)
    built = build_children(of, credentials(of), IMAGES, producer_released=producer_released)
    return {f"{child['kind']}/{child['metadata']['name']}": child for child in built}


def live(manifest: Manifest, version: str = "1", **status: Any) -> Manifest:
    """Return a manifest as the API server would give it back."""
    metadata = {**manifest["metadata"], "uid": f"uid-of-{key_of(manifest)}", "resourceVersion": version}
    return {**manifest, "metadata": metadata, "status": status}


def by_key(*manifests: Manifest) -> dict[ObjectKey, Manifest]:
    return {key_of(manifest): manifest for manifest in manifests}


def pod_spec(workload: Manifest) -> Any:
    return workload["spec"]["template"]["spec"]


def container(workload: Manifest) -> Any:
    (only,) = pod_spec(workload)["containers"]
    return only


def environment(workload: Manifest) -> dict[str, Any]:
    """Return the variables of a workload's container."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(workload)["env"]}
