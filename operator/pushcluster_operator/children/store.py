"""StatefulSets of the two stores: one pod, one volume."""

from collections.abc import Mapping

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component, build_labels, build_selector
from pushcluster_operator.kube.manifest import Manifest


def build_store(
    inputs: Inputs, component: Component, *, name: str, service: str, storage: str, template: Mapping[str, object]
) -> Manifest:
    """Return a StatefulSet of one pod with a volume `data` that the deletion policy keeps or drops."""
    identity = inputs.cluster.identity
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": inputs.metadata(name, component),
        "spec": {
            "replicas": 1,
            "serviceName": service,
            # With OrderedReady a pod that never became ready would block the update that mends it.
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
