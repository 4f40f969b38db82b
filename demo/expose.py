"""Makes one PushCluster's services reachable on 127.0.0.1, through NodePorts that the local cluster maps."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from demo.kubectl import Cluster, Kubectl

PORTS = {"gateway": 8080, "dispatcher": 8080, "rabbitmq": 5672, "redis": 6379}
"""Component → the port on which its container listens."""
SLOT_PORTS = len(PORTS) + 1
"""How many NodePorts each exposed PushCluster takes: one for each component, and one for a page."""


def build_services(name: str, first_node_port: int) -> list[dict[str, Any]]:
    """Return a NodePort Service for each component of the PushCluster `name`."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"{name}-{component}-host"},
            "spec": {
                "type": "NodePort",
                "selector": {"pushcluster.dev/cluster": name, "pushcluster.dev/component": component},
                "ports": [{"port": port, "targetPort": port, "nodePort": first_node_port + offset}],
            },
        }
        for offset, (component, port) in enumerate(PORTS.items())
    ]


@dataclass(frozen=True, slots=True)
class Access:
    """How this machine reaches one PushCluster."""

    cluster: str
    """`<namespace>.<name>`."""
    ws_url: str
    api_url: str
    api_key: str
    amqp_url: str
    """With the cluster's own user, who may do everything in the vhost."""
    producer_amqp_url: str
    """With the producer's user, who may only publish."""
    redis_url: str
    page_node_port: int
    page_url: str
    jwt_key: str


def expose(cluster: Cluster, kubectl: Kubectl, name: str, *, slot: int = 0) -> Access:
    """Apply the NodePort Services of slot 0 to 3, and read the Secrets. The PushCluster must be Ready."""
    offset = slot * SLOT_PORTS
    kubectl.apply(*build_services(name, cluster.first_node_port + offset))
    host_ports = {component: cluster.first_host_port + offset + n for n, component in enumerate(PORTS)}
    rabbitmq, producer = kubectl.secret(f"{name}-rabbitmq"), kubectl.secret(f"{name}-producer")
    vhost = quote(f"{kubectl.namespace}.{name}", safe="")
    amqp = f"127.0.0.1:{host_ports['rabbitmq']}/{vhost}"
    return Access(
        cluster=f"{kubectl.namespace}.{name}",
        ws_url=f"ws://127.0.0.1:{host_ports['gateway']}/ws",
        api_url=f"http://127.0.0.1:{host_ports['dispatcher']}",
        api_key=kubectl.secret(f"{name}-api")["api-key"].split()[0],  # it may hold several keys while they are rotated
        amqp_url=f"amqp://{quote(rabbitmq['username'])}:{quote(rabbitmq['password'])}@{amqp}",
        producer_amqp_url=f"amqp://{quote(producer['username'])}:{quote(producer['password'])}@{amqp}",
        redis_url=f"redis://:{quote(kubectl.secret(f'{name}-redis')['password'])}@127.0.0.1:{host_ports['redis']}/0",
        page_node_port=cluster.first_node_port + offset + len(PORTS),
        page_url=f"http://127.0.0.1:{cluster.first_host_port + offset + len(PORTS)}/",
        jwt_key=kubectl.secret(f"{name}-jwt")["hs256.key"],
    )
