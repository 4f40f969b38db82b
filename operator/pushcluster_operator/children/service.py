"""Services, ServiceAccounts and PodDisruptionBudgets: the same for every component but for names and ports."""

from collections.abc import Mapping

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component, build_selector
from pushcluster_operator.kube.manifest import Manifest


def build_service(inputs: Inputs, name: str, component: Component, ports: Mapping[str, tuple[int, str]]) -> Manifest:
    """Return a Service inside the Kubernetes cluster; `ports` maps a name to (port, name of the container's port)."""
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
    """Return a ServiceAccount that may do nothing: our programs never talk to the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": inputs.metadata(name, component),
        "automountServiceAccountToken": False,
    }


def build_budget(inputs: Inputs, name: str, component: Component, replicas: int) -> Manifest | None:
    """Return a PodDisruptionBudget that lets one pod go at a time; none for one pod, which could never leave."""
    if replicas < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": inputs.metadata(name, component),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": build_selector(inputs.cluster.identity, component)},
            # A pod that does not work serves nobody and must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
