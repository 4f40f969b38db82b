"""The configuration for kind: three nodes, ports on 127.0.0.1, and a control plane that notices a lost node soon."""

import json
from typing import Any

from local_cluster.settings import CLUSTER, POD_SUBNET, SERVICE_SUBNET, WORKERS, NodePorts

# With its own values, Kubernetes takes 6 minutes to move a pod from a lost node. With these it takes about 30 s, and a
# busy machine may still miss some heartbeats.
_CLUSTER_PATCH = {
    "kind": "ClusterConfiguration",
    "controllerManager": {"extraArgs": {"node-monitor-period": "1s", "node-monitor-grace-period": "20s"}},
    "apiServer": {
        "extraArgs": {
            "default-not-ready-toleration-seconds": "10",
            "default-unreachable-toleration-seconds": "10",
        }
    },
}
_KUBELET_PATCH = {"kind": "KubeletConfiguration", "nodeStatusUpdateFrequency": "4s", "nodeLeaseDurationSeconds": 12}


def build_kind_config(ports: NodePorts) -> dict[str, Any]:
    """Return kind's Cluster document (JSON is YAML)."""
    mappings = [
        {
            "containerPort": ports.first + n,
            "hostPort": ports.host_first + n,
            "listenAddress": "127.0.0.1",
            "protocol": "TCP",
        }
        for n in range(ports.count)
    ]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": CLUSTER,
        "networking": {
            "apiServerAddress": "127.0.0.1",
            # Our own CNI configuration is short and needs no image. kind's would be one more image to build.
            "disableDefaultCNI": True,
            "podSubnet": POD_SUBNET,
            "serviceSubnet": SERVICE_SUBNET,
        },
        "kubeadmConfigPatches": [json.dumps(_CLUSTER_PATCH), json.dumps(_KUBELET_PATCH)],
        "nodes": [{"role": "control-plane", "extraPortMappings": mappings}, *({"role": "worker"} for _ in WORKERS)],
    }
