"""Creates, checks and removes the kind cluster."""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from local_cluster.corefile import keep_queries_inside
from local_cluster.errors import CannotContinue
from local_cluster.fingerprint import fingerprint
from local_cluster.kind_config import build_kind_config
from local_cluster.network import (
    CNI_FILE,
    NodeAddress,
    as_script,
    build_cni_config,
    plan_host_walls,
    plan_host_walls_removal,
    plan_kernel_limits,
    plan_node_routes,
)
from local_cluster.process import answer_of, output_of, run
from local_cluster.settings import CLUSTER, CONTROL_PLANE, NODE_PORTS, NODES, Places

_MARK: Final = "/kind/pushcluster-complete"
"""A file on the control plane of a complete cluster. It holds the fingerprint of what the cluster was made from."""
_ADDRESS: Final = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
READY_LIMIT_S: Final = 120
ENV_CLUSTER: Final = "PUSHCLUSTER_CLUSTER"
"""With the value `keep`, a cluster that was made from other sources is used as it is."""
REGRET_S: Final = 10
PATIENCE_S: Final = 30
"""How long a cluster may take to answer before it counts as broken and is recreated."""


def parse_nodes(document: dict[str, Any]) -> dict[str, str]:
    """Return the pod range of each node from the API's list of nodes. Nodes without a range are left out."""
    return {
        item["metadata"]["name"]: item["spec"]["podCIDR"] for item in document["items"] if "podCIDR" in item["spec"]
    }


def parse_internal_ips(document: dict[str, Any]) -> dict[str, str]:
    """Return the address of each node inside the cluster from the API's list of nodes."""
    return {
        item["metadata"]["name"]: address["address"]
        for item in document["items"]
        for address in item["status"]["addresses"]
        if address["type"] == "InternalIP"
    }


def describe_other_cluster(push_clusters: Sequence[str]) -> str:
    """Return the warning before a cluster that was made from other sources is replaced."""
    why = "The existing cluster was made from other sources of local_cluster, so it is recreated"
    if not push_clusters:
        return f"{why}."
    lost = ", ".join(push_clusters)
    return (
        f"{why}, and PushCluster {lost} in it is lost. To keep it, press Ctrl-C within {REGRET_S} s. "
        f"To use it as it is, put {ENV_CLUSTER}=keep before the command."
    )


def taken_ports(ports: Sequence[int]) -> list[int]:
    """Return those of the ports on which something listens at 127.0.0.1."""
    taken = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(port)
    return taken


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of this machine, made from `node_image` with the programs in `tools` (kind, kubectl)."""

    places: Places
    node_image: str
    node_content: str
    tools: Path

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        """Run kubectl against the cluster and return what it prints."""
        command = [self.kubectl_program, "--kubeconfig", str(self.places.kubeconfig), *arguments]
        return answer_of(command, what=f"kubectl {' '.join(arguments[:2])}", stdin=stdin, timeout_s=timeout_s)

    @property
    def kubectl_program(self) -> str:
        """The user's kubectl if there is one, else the one from `tools`."""
        return shutil.which("kubectl") or str(self.tools / "kubectl")

    @property
    def _kind_program(self) -> str:
        """The kind from `tools`, which fits the node image; if there is none, the user's."""
        own = self.tools / "kind"
        return str(own) if own.exists() else "kind"

    @property
    def _content(self) -> str:
        return fingerprint(self.node_image, self.node_content, json.dumps(build_kind_config(NODE_PORTS)))

    def is_well(self) -> bool:
        """Tell whether the cluster is complete, was made from the current sources, and answers."""
        states = output_of(["docker", "inspect", "--format", "{{.State.Running}}", *NODES])
        if states is None or states.split() != ["true"] * len(NODES):
            return False
        if not self._is_of_our_sources() and os.environ.get(ENV_CLUSTER) != "keep":
            return False
        self._write_kubeconfig()
        return self._nodes_are_ready() and self._nodes_are_where_they_were()

    def _is_of_our_sources(self) -> bool:
        return (output_of(["docker", "exec", CONTROL_PLANE, "cat", _MARK]) or "").strip() == self._content

    def describe_replacement(self) -> str | None:
        """Return a sentence: why the cluster is recreated and what is lost. None if there is no cluster."""
        states = output_of(["docker", "inspect", "--format", "{{.State.Running}}", *NODES])
        if states is None:
            return None
        if states.split() != ["true"] * len(NODES):
            return "The existing cluster is stopped, so it is recreated."
        if self._is_of_our_sources():
            return "The existing cluster does not work, so it is recreated."
        return describe_other_cluster(self._push_clusters())

    def _push_clusters(self) -> list[str]:
        """Return the PushClusters in the cluster, as `namespace/name`."""
        names = "{range .items[*]}{.metadata.namespace}/{.metadata.name} {end}"
        command = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=5s"]
        listed = ["get", "pushclusters", "--all-namespaces", "-o", f"jsonpath={names}"]
        return (output_of(["docker", "exec", CONTROL_PLANE, *command, *listed], timeout_s=15) or "").split()

    def give_time_to_keep_it(self) -> None:
        """Wait a while if a PushCluster would be lost and a person at a terminal can still interrupt."""
        if sys.stdin.isatty() and self._push_clusters():
            time.sleep(REGRET_S)

    def _nodes_are_ready(self) -> bool:
        """Tell whether all nodes are ready. Wait a while, because new clusters and busy machines need time."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._all_nodes_report_ready():
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        return True

    def _all_nodes_report_ready(self) -> bool:
        ready = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
        command = [self.kubectl_program, "--kubeconfig", str(self.places.kubeconfig), "--request-timeout=5s"]
        conditions = output_of([*command, "get", "nodes", "-o", ready], timeout_s=15)
        return conditions is not None and conditions.split() == ["True"] * len(NODES)

    def _nodes_are_where_they_were(self) -> bool:
        """Tell whether every node has the address under which Kubernetes knows it.

        Docker assigns new addresses when it restarts. Nodes that have swapped addresses look ready, but `kubectl exec`
        and `logs` reach the wrong one.
        """
        known = parse_internal_ips(json.loads(self.kubectl("get", "nodes", "-o", "json")))
        return known == dict(zip(NODES, self._container_addresses(), strict=True))

    def _container_addresses(self) -> list[str]:
        return answer_of(
            ["docker", "inspect", "--format", _ADDRESS, *NODES], what="Asking Docker for the nodes' addresses"
        ).split()

    def _write_kubeconfig(self) -> None:
        """Write the kubeconfig. Only this user can read it, because it holds the administrator's key."""
        config = output_of([self._kind_program, "get", "kubeconfig", "--name", CLUSTER])
        if config:
            self.places.build.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.places.kubeconfig, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(config)

    def create(self) -> None:
        """Create the cluster. Remove what is left of an earlier one first.

        Raises CannotContinue if a port is taken or kind fails.
        """
        self.delete()
        if taken := taken_ports(NODE_PORTS.host_ports()):
            raise CannotContinue(
                f"Port {', '.join(map(str, taken))} of 127.0.0.1 is taken. The cluster needs the ports "
                f"{NODE_PORTS.host_first} to {NODE_PORTS.host_ports()[-1]}. Find the program with "
                f"`ss -ltnp 'sport = :{taken[0]}'`, stop it, and run the command again."
            )
        self.places.build.mkdir(parents=True, exist_ok=True)
        log = self.places.log("kind")
        self._prepare_host(log)
        try:
            run(
                [
                    self._kind_program,
                    "create",
                    "cluster",
                    "--image",
                    self.node_image,
                    "--config",
                    "-",
                    "--retain",
                    "--kubeconfig",
                    self.places.kubeconfig,
                    "--verbosity",
                    "1",
                ],
                log=log,
                what="Creating the cluster with kind",
                stdin=json.dumps(build_kind_config(NODE_PORTS)).encode(),
            )
        except CannotContinue:
            self._keep_journal(log)
            raise
        self._write_kubeconfig()

    def _keep_journal(self, log: Path) -> None:
        journal = output_of(["docker", "exec", CONTROL_PLANE, "journalctl", "--no-pager", "--lines", "200"])
        with log.open("a") as file:
            file.write(f"The last lines of {CONTROL_PLANE}'s journal:\n{journal or 'none'}\n")

    def connect(self) -> None:
        """Give pods addresses, routes and names. It may be repeated, for example after a node's restart."""
        log = self.places.log("network")
        self._prepare_host(log)
        self._keep_queries_inside()
        nodes = self._addresses()
        for node in nodes:
            cni = ["docker", "exec", "-i", node.name, "cp", "/dev/stdin", CNI_FILE]
            run(
                cni,
                log=log,
                what=f"Writing the CNI configuration of {node.name}",
                stdin=build_cni_config(node.pod_range).encode(),
            )
            script = as_script(plan_node_routes(node, nodes))
            run(["docker", "exec", node.name, "sh", "-c", script], log=log, what=f"Setting routes on {node.name}")

    def _addresses(self) -> list[NodeAddress]:
        deadline = time.monotonic() + READY_LIMIT_S
        while len(ranges := parse_nodes(json.loads(self.kubectl("get", "nodes", "-o", "json")))) < len(NODES):
            if time.monotonic() > deadline:
                raise CannotContinue(f"Some nodes did not join the cluster. See {self.places.log('kind')}.")
            time.sleep(0.5)
        return [
            NodeAddress(name, ip, ranges[name]) for name, ip in zip(NODES, self._container_addresses(), strict=True)
        ]

    def _keep_queries_inside(self) -> None:
        configuration = json.loads(self.kubectl("-n", "kube-system", "get", "configmap", "coredns", "-o", "json"))
        corefile = keep_queries_inside(configuration["data"]["Corefile"])
        if corefile != configuration["data"]["Corefile"]:
            configuration["data"]["Corefile"] = corefile
            self.kubectl("replace", "-f", "-", stdin=json.dumps(configuration))

    def _prepare_host(self, log: Path) -> None:
        _run_on_host(self.node_image, f"{as_script(plan_host_walls())}\n{plan_kernel_limits()}", log)

    def wait_until_ready(self) -> None:
        """Wait until nodes, DNS and volumes work. Then mark the cluster as complete."""
        limit = f"--timeout={READY_LIMIT_S}s"
        patience = READY_LIMIT_S + 10
        self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", limit, timeout_s=patience)
        self.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", limit, timeout_s=patience)
        mark = ["docker", "exec", "-i", CONTROL_PLANE, "cp", "/dev/stdin", _MARK]
        run(mark, log=self.places.log("kind"), what="Marking the cluster as complete", stdin=self._content.encode())

    def delete(self) -> None:
        """Remove the cluster, complete or not, and its files on this machine."""
        log = self.places.log("kind")
        leftover = output_of(["docker", "ps", "--all", "--quiet", "--filter", f"label=io.x-k8s.kind.cluster={CLUSTER}"])
        if leftover and leftover.strip():
            run(["docker", "rm", "--force", "--volumes", *leftover.split()], log=log, what="Removing the old cluster")
        for file in (self.places.kubeconfig, self.places.cluster_file):
            with suppress(FileNotFoundError):
                file.unlink()

    def lower_walls(self) -> None:
        """Remove the routes that this module set on this machine."""
        _run_on_host(self.node_image, as_script(plan_host_walls_removal()), self.places.log("network"))


def _run_on_host(image: str, script: str, log: Path) -> None:
    """Run a script in this machine's network. It runs in a container, because a user of Docker need not be root."""
    container = ["docker", "run", "--rm", "--network", "host", "--privileged", "--entrypoint", "sh", image]
    run([*container, "-c", script], log=log, what="Setting this machine's routes and limits")
