"""Reads the operator's children for a machine without Kubernetes. Pure.

A StatefulSet's pod becomes a container, and a Deployment's pod becomes a process. This module understands only what the
children use. Anything else is an error, so that nothing is silently left out. Resources, security contexts, spread and
disruption budgets are ignored, because this is one machine and not a cluster.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_run.errors import LocalRunError
from pushcluster_operator.kube.labels import COMPONENT

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """What a pod knows about itself."""

    name: str
    uid: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Children:
    """The objects of one PushCluster, by kind and name."""

    manifests: tuple[Manifest, ...]

    def all_of_component(self, kind: str, component: str) -> list[Manifest]:
        """Return the component's objects of this kind."""
        return [
            manifest
            for manifest in self.manifests
            if manifest["kind"] == kind and manifest["metadata"].get("labels", {}).get(COMPONENT) == component
        ]

    def of_component(self, kind: str, component: str) -> Manifest:
        """Return the component's one object of this kind."""
        found = self.all_of_component(kind, component)
        if len(found) != 1:
            raise LocalRunError(f"the operator's builders make {len(found)} {kind}s for {component} instead of one")
        return found[0]

    def named(self, kind: str, name: str) -> Manifest | None:
        """Return one object, or None."""
        found = (m for m in self.manifests if m["kind"] == kind and m["metadata"]["name"] == name)
        return next(found, None)

    def values(self, kind: str, name: str) -> Mapping[str, str]:
        """Return the texts in a Secret or ConfigMap. Raises LocalRunError if it is not among the children."""
        manifest = self.named(kind, name)
        if manifest is None:
            raise LocalRunError(
                f"the PushCluster refers to the {kind} {name}, which exists only in Kubernetes. "
                "For a local run, remove the reference, and one is generated"
            )
        if kind == "Secret":
            return {key: base64.b64decode(value).decode() for key, value in manifest["data"].items()}
        data: Mapping[str, str] = manifest["data"]
        return data


def pod_spec(workload: Manifest) -> Manifest:
    """Return the pod spec of a Deployment or StatefulSet."""
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def only_container(workload: Manifest) -> Manifest:
    """Return the workload's one container."""
    spec = pod_spec(workload)
    containers: list[Manifest] = [*spec.get("initContainers", ()), *spec["containers"]]
    if len(containers) != 1:
        raise LocalRunError(
            f"{workload['metadata']['name']} has {len(containers)} containers; a local run supports exactly one"
        )
    return containers[0]


def read_environment(container: Manifest, pod: PodIdentity, children: Children) -> dict[str, str]:
    """Return the container's environment variables, as the kubelet would set them."""
    return {entry["name"]: _value(entry, pod, children) for entry in container.get("env", ())}


def read_files(workload: Manifest, children: Children) -> dict[str, bytes]:
    """Return a mapping: path inside the container → content, for every mounted ConfigMap and Secret."""
    volumes = {volume["name"]: volume for volume in pod_spec(workload).get("volumes", ())}
    files: dict[str, bytes] = {}
    for mount in only_container(workload).get("volumeMounts", ()):
        volume = volumes.get(mount["name"], {})
        for name, text in _volume_files(volume, children).items():
            files[f"{mount['mountPath']}/{name}"] = text.encode()
    return files


def read_data_directories(workload: Manifest) -> tuple[str, ...]:
    """Return the paths where claims are mounted; their content outlives the container."""
    claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
    return tuple(m["mountPath"] for m in only_container(workload)["volumeMounts"] if m["name"] in claims)


def read_ports(container: Manifest) -> tuple[int, ...]:
    """Return the container's ports, in their order."""
    return tuple(port["containerPort"] for port in container["ports"])


def service_addresses(children: Children, component: str) -> dict[str, int]:
    """Return a mapping for the component's Services: `<host>:<port>` as pods write it → the container's port."""
    container = only_container(children.of_component("StatefulSet", component))
    targets: dict[str, int] = {port["name"]: port["containerPort"] for port in container["ports"]}
    addresses: dict[str, int] = {}
    for service in children.all_of_component("Service", component):
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
        for port in service["spec"]["ports"]:
            if port["targetPort"] in targets:
                addresses[f"{host}:{port['port']}"] = targets[port["targetPort"]]
    return addresses


def _value(entry: Manifest, pod: PodIdentity, children: Children) -> str:
    if "value" in entry:
        return _expand(entry["name"], str(entry["value"]))
    match entry["valueFrom"]:
        case {"secretKeyRef": {"name": name, "key": key}}:
            return children.values("Secret", name)[key]
        case {"configMapKeyRef": {"name": name, "key": key}}:
            return children.values("ConfigMap", name)[key]
        case {"fieldRef": {"fieldPath": "metadata.name"}}:
            return pod.name
        case {"fieldRef": {"fieldPath": "metadata.uid"}}:
            return pod.uid
        case {"fieldRef": {"fieldPath": "metadata.namespace"}}:
            return pod.namespace
    raise LocalRunError(f"variable {entry['name']} comes from {entry['valueFrom']}, which a local run does not support")


def _expand(name: str, value: str) -> str:
    """Return the value with `$` for each `$$`, as the kubelet does. Raises LocalRunError for `$(OTHER)`."""
    if "$(" in value.replace("$$", ""):
        raise LocalRunError(f"variable {name} refers to another variable, which a local run does not support")
    return value.replace("$$", "$")


def _volume_files(volume: Manifest, children: Children) -> Mapping[str, str]:
    if "projected" in volume:
        return _projected_files(volume["projected"]["sources"], children)
    if "configMap" in volume:
        source, values = volume["configMap"], children.values("ConfigMap", volume["configMap"]["name"])
    elif "secret" in volume:
        source, values = volume["secret"], children.values("Secret", volume["secret"]["secretName"])
    else:
        return {}
    return _select(source, values)


def _projected_files(sources: Sequence[Manifest], children: Children) -> dict[str, str]:
    files: dict[str, str] = {}
    for source in sources:
        if source.keys() != {"secret"}:
            raise LocalRunError(f"a volume is projected from {sorted(source)}, which a local run does not support")
        files |= _select(source["secret"], children.values("Secret", source["secret"]["name"]))
    return files


def _select(source: Manifest, values: Mapping[str, str]) -> Mapping[str, str]:
    if "items" not in source:
        return values
    items = [item for item in source["items"] if item["key"] in values or not source.get("optional")]
    return {item["path"]: values[item["key"]] for item in items}
