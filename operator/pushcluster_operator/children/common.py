"""What components share: Services, ServiceAccounts, PodDisruptionBudgets, Secrets, and the stores' StatefulSet."""

from collections.abc import Mapping

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component, build_labels, build_selector
from pushcluster_operator.kube.manifest import Manifest, encode_data


def build_service(inputs: Inputs, name: str, component: Component, ports: Mapping[str, tuple[int, str]]) -> Manifest:
    """Return a ClusterIP Service. `ports` maps a name to (port, name of the container's port)."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": inputs.metadata(name, component),
        "spec": {
            "type": "ClusterIP",
            "selector": build_selector(inputs.cluster.identity, component),
            "ports": [
                {"name": port_name, "port": port, "targetPort": target, "protocol": "TCP"}
                for port_name, (port, target) in ports.items()
            ],
        },
    }


def build_account(inputs: Inputs, name: str, component: Component) -> Manifest:
    """Return a ServiceAccount without any right. Gateways and dispatchers never talk to the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": inputs.metadata(name, component),
        "automountServiceAccountToken": False,
    }


def build_budget(inputs: Inputs, name: str, component: Component, replicas: int) -> Manifest | None:
    """Return a PodDisruptionBudget that lets one pod go at a time. None for a single pod, which could never leave."""
    if replicas < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": inputs.metadata(name, component),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": build_selector(inputs.cluster.identity, component)},
            # A pod that is not healthy serves nobody, so it must not block the drain of a node.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def build_secret(inputs: Inputs, name: str, component: Component, values: Mapping[str, str]) -> Manifest:
    """Return an opaque Secret with these texts."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": inputs.metadata(name, component),
        "data": encode_data(values),
    }


def build_store(
    inputs: Inputs, component: Component, *, name: str, service: str, storage: str, template: Mapping[str, object]
) -> Manifest:
    """Return a StatefulSet of one pod. The deletion policy keeps or drops its volume `data`."""
    identity = inputs.cluster.identity
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": inputs.metadata(name, component),
        "spec": {
            "replicas": 1,
            "serviceName": service,
            # With OrderedReady, a pod that never became ready would block the update that fixes it.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "revisionHistoryLimit": 3,
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": inputs.cluster.spec.deletion_policy.value,
                "whenScaled": "Retain",
            },
            "selector": {"matchLabels": build_selector(identity, component)},
            "template": template,
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": build_labels(identity, component)},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
                }
            ],
        },
    }
