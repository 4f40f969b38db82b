"""Headless Service `<cluster>-rabbitmq-nodes`: gives the broker's node the name that its data directory belongs to."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component, build_selector
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest:
    """Build the Service. Addresses are published before the node is ready: it has to resolve its own name to start."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": inputs.metadata(inputs.names.rabbitmq_nodes, Component.RABBITMQ),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": build_selector(inputs.cluster.identity, Component.RABBITMQ),
            "ports": [
                {"name": "epmd", "port": 4369, "targetPort": 4369, "protocol": "TCP"},
                {"name": "distribution", "port": 25672, "targetPort": 25672, "protocol": "TCP"},
            ],
        },
    }
