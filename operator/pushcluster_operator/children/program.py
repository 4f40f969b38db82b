"""Deployments of our own two programs."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import PROGRAM_UID, build_pod_template, build_spread, pod_security
from pushcluster_operator.kube.labels import Component, build_labels, build_selector
from pushcluster_operator.kube.manifest import Manifest


def build_program(
    inputs: Inputs, component: Component, *, name: str, replicas: int, container: Manifest, grace_s: int, checksum: str
) -> Manifest:
    """Return a Deployment that takes an old pod away only after a new one is ready."""
    identity = inputs.cluster.identity
    pod = {
        "serviceAccountName": name,
        "securityContext": pod_security(PROGRAM_UID),
        "terminationGracePeriodSeconds": grace_s,
        "topologySpreadConstraints": build_spread(inputs, component),
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": inputs.metadata(name, component),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 120,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": build_selector(identity, component)},
            "template": build_pod_template(build_labels(identity, component), checksum, pod),
        },
    }
