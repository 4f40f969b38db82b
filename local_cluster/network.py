"""Sets routes between the nodes' pods, and walls: routes that keep the pods' packets on this machine."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from local_cluster.settings import POD_SUBNET, SERVICE_SUBNET

CNI_FILE: Final = "/etc/cni/net.d/10-pods.conflist"
_WALL_PRIORITY: Final = 100
_KERNEL_LIMITS: Final = {"fs/inotify/max_user_instances": 1024, "fs/inotify/max_user_watches": 524288}
_WALL_METRIC: Final = "4000"
"""Higher than the metric of other routes, so that a user's network with the same addresses still works."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node's address on Docker's network, and the address range of its pods."""

    name: str
    ip: str
    pod_range: str


def build_cni_config(pod_range: str) -> str:
    """Return a node's CNI configuration: each pod has a point-to-point link and an address in the node's range."""
    pods = {
        "type": "ptp",
        "ipMasq": False,
        "mtu": 1500,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": pod_range}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [pods, ports]})


def plan_node_routes(node: NodeAddress, nodes: Sequence[NodeAddress]) -> list[list[str]]:
    """Return `ip` commands for a node: routes to the other nodes' pods, and no default route for its own pods.

    The first rule looks up the main table without its default route. The second refuses what found no route there.
    """
    routes = [["ip", "route", "replace", other.pod_range, "via", other.ip] for other in nodes if other != node]
    inside = ["from", POD_SUBNET, "lookup", "main", "suppress_prefixlength", "0"]
    return [
        *routes,
        ["ip", "rule", "del", "priority", str(_WALL_PRIORITY)],
        ["ip", "rule", "del", "priority", str(_WALL_PRIORITY + 1)],
        ["ip", "rule", "add", "priority", str(_WALL_PRIORITY), *inside],
        ["ip", "rule", "add", "priority", str(_WALL_PRIORITY + 1), "from", POD_SUBNET, "unreachable"],
    ]


def plan_host_walls() -> list[list[str]]:
    """Return `ip` commands for this machine that reject packets which kube-proxy has not translated."""
    return [_wall("replace", subnet) for subnet in (SERVICE_SUBNET, POD_SUBNET)]


def plan_host_walls_removal() -> list[list[str]]:
    """Return the `ip` commands that remove the walls."""
    return [_wall("del", subnet) for subnet in (SERVICE_SUBNET, POD_SUBNET)]


def plan_kernel_limits() -> str:
    """Return a script that raises limits which three nodes on one kernel could reach. It never lowers them.

    Every kubelet, containerd and followed log holds inotify instances. A user may have 128 by default.
    """
    lines = [
        f"[ $(cat /proc/sys/{name}) -ge {value} ] || echo {value} > /proc/sys/{name}"
        for name, value in _KERNEL_LIMITS.items()
    ]
    return "\n".join(lines)


def _wall(verb: str, subnet: str) -> list[str]:
    return ["ip", "route", verb, "unreachable", subnet, "metric", _WALL_METRIC]


def as_script(commands: Sequence[Sequence[str]]) -> str:
    """Return a shell script with the commands. A `del` may find nothing to delete."""
    lines = [" ".join(command) + (" 2>/dev/null || true" if "del" in command else "") for command in commands]
    return "\n".join(["set -e", *lines])
