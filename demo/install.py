"""Installs the operator and its CRD with kubectl, with the images in the local cluster."""

import json
from typing import Any, Final

from demo.kubectl import BUILD, ROOT, Cluster
from pushcluster_contract import env

OPERATOR_NAMESPACE: Final = "pushcluster-system"
OPERATOR: Final = "pushcluster-operator"


def build_overlay(images: dict[str, str]) -> dict[str, Any]:
    """Return a kustomization of manifests/base that sets the image of each part."""
    names = {
        env.IMAGE_GATEWAY: images["gateway"],
        env.IMAGE_DISPATCHER: images["dispatcher"],
        env.IMAGE_RABBITMQ: images["rabbitmq"],
        env.IMAGE_REDIS: images["redis"],
    }
    container = {
        "name": "operator",
        "image": images["operator"],
        "env": [{"name": name, "value": image} for name, image in names.items()],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": OPERATOR, "namespace": OPERATOR_NAMESPACE},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../manifests/base"],
        "patches": [{"patch": json.dumps(deployment)}],
    }


def install_operator(cluster: Cluster) -> None:
    """Apply the CRD and the operator, and wait until the operator is ready. Raises CommandFailed."""
    overlay = BUILD / "overlay"
    overlay.mkdir(parents=True, exist_ok=True)
    kustomization = json.dumps(build_overlay(cluster.images), indent=2)
    (overlay / "kustomization.yaml").write_text(kustomization, encoding="utf-8")
    kubectl = cluster.kubectl(OPERATOR_NAMESPACE)
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "crd/pushclusters.pushcluster.dev", "--timeout=30s")
    # kubectl caches the API for hours, and another version may have had other names. This refreshes the cache.
    kubectl("api-resources", "--api-group=pushcluster.dev")
    kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", str(overlay))
    kubectl("rollout", "status", f"deployment/{OPERATOR}", "--timeout=120s", within_s=130)
