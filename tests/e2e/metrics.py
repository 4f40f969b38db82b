"""A pod's own metrics, read through the API server: no port of the pod has to be reachable from here."""

from prometheus_client.parser import text_string_to_metric_families

from demo.install import OPERATOR_NAMESPACE
from demo.kubectl import Cluster, CommandFailed, Kubectl

ADMIN_PORT = 9090


def read_metric(kubectl: Kubectl, pod: str, name: str, **labels: str) -> float:
    """Return the sum of the samples called `name` that carry these labels; 0 when there is none."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}:{ADMIN_PORT}/proxy/metrics"
    return sum(
        sample.value
        for family in text_string_to_metric_families(kubectl("get", "--raw", path))
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def read_operator_metric(cluster: Cluster, name: str, **labels: str) -> float:
    """Return the same of the operator; while one is replaced, of the one that stays."""
    kubectl = cluster.kubectl(OPERATOR_NAMESPACE)
    pods = [pod["metadata"] for pod in kubectl.items("pods") if "deletionTimestamp" not in pod["metadata"]]
    if not pods:
        raise CommandFailed("no pod of the operator is there")
    return read_metric(kubectl, pods[0]["name"], name, **labels)
