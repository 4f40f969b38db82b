"""Routes between the nodes' pods, and walls that keep their packets on this machine."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from local_cluster.settings import POD_SUBNET, SERVICE_SUBNET

CNI_FILE: Final = "/etc/cni/net.d/10-pods.conflist"
_WALL_PRIORITY: Final = 100
_KERNEL_LIMITS: Final = {"fs/inotify/max_user_instances": 1024, "fs/inotify/max_user_watches": 524288}
_WALL_METRIC: Final = "4000"
"""Behind every other route, so that a network of the user's with the same addresses is not cut off."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node on Docker's network, and the range that its pods get addresses from."""

    name: str
    ip: str
    pod_range: str


def build_cni_config(pod_range: str) -> str:
    """Return the CNI configuration of a node: a point-to-point link for each pod, addresses from the node's range."""
    pods = {
        "type": "ptp",
        "ipMasq": False,
        "mtu": 1500,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": pod_range}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [pods, ports]})


def plan_node_routes(node: NodeAddress, nodes: Sequence[NodeAddress]) -> list[list[str]]:
    """Return `ip` commands for a node: to the pods of the others through these; from pods, no way out by default.

    The two rules look up the main table without its default route first and refuse what found nothing there.
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
    """Return `ip` commands for this machine: a packet that kube-proxy has not translated dies here."""
    return [_wall("replace", subnet) for subnet in (SERVICE_SUBNET, POD_SUBNET)]


def plan_host_walls_removal() -> list[list[str]]:
    """Return the `ip` commands that take the walls down."""
    return [_wall("del", subnet) for subnet in (SERVICE_SUBNET, POD_SUBNET)]


def plan_kernel_limits() -> str:
    """Return a script that raises the limits which three nodes on one kernel come near; they are never lowered.

    Every kubelet, containerd and followed log holds inotify instances, of which a user has 128 by default.
    """
    lines = [
        f"[ $(cat /proc/sys/{name}) -ge {value} ] || echo {value} > /proc/sys/{name}"
        for name, value in _KERNEL_LIMITS.items()
    ]
    return "\n".join(lines)


def _wall(verb: str, subnet: str) -> list[str]:
    return ["ip", "route", verb, "unreachable", subnet, "metric", _WALL_METRIC]


def as_script(commands: Sequence[Sequence[str]]) -> str:
    """Return a shell script of the commands; a `del` may find nothing to delete."""
    lines = [" ".join(command) + (" 2>/dev/null || true" if "del" in command else "") for command in commands]
    return "\n".join(["set -e", *lines])
