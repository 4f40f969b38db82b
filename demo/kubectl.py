"""Runs kubectl as a person would. The demo shows its commands; the tests run them."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
CLUSTER_FILE = BUILD / "cluster.json"


class CommandFailed(Exception):
    """A command failed. The message is the command and what it printed."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl for one kubeconfig and one namespace."""

    kubeconfig: Path
    namespace: str
    program: str = "kubectl"

    def __call__(self, *args: str, stdin: str | None = None, within_s: float = 60) -> str:
        """Run `kubectl args…`. Return its standard output. Raises CommandFailed."""
        command = [self.program, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *args]
        try:
            result = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=within_s, check=False)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"kubectl {' '.join(args)}: did not finish within {within_s} s") from None
        if result.returncode:
            raise CommandFailed(f"kubectl {' '.join(args)}: {result.stderr.strip() or result.stdout.strip()}")
        return result.stdout

    def get(self, *args: str) -> Any:
        """Return `kubectl get args… -o json`, decoded."""
        return json.loads(self("get", *args, "--output", "json"))

    def items(self, *args: str) -> list[Any]:
        """Return the items of `kubectl get args…`."""
        items: list[Any] = self.get(*args)["items"]
        return items

    def apply(self, *manifests: dict[str, Any]) -> str:
        """Apply objects."""
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return self("apply", "--filename", "-", stdin=stdin)

    def secret(self, name: str) -> dict[str, str]:
        """Return a Secret's data, decoded."""
        encoded = self.get("secret", name)["data"]
        return {key: _from_base64(value) for key, value in encoded.items()}

    def within(self, namespace: str) -> "Kubectl":
        """Return the same kubectl for another namespace."""
        return Kubectl(self.kubeconfig, namespace, self.program)


def _from_base64(value: str) -> str:
    return base64.b64decode(value).decode()


@dataclass(frozen=True, slots=True)
class Cluster:
    """What `python3 -m local_cluster up` wrote to build/cluster.json."""

    kubeconfig: Path
    kubectl_program: str
    images: dict[str, str]
    """Image of each part: operator, gateway, dispatcher, page, redis, rabbitmq."""
    first_node_port: int
    first_host_port: int
    node_ports: int

    @classmethod
    def load(cls) -> Self:
        """Read build/cluster.json. Raises CommandFailed if there is none."""
        try:
            facts = json.loads(CLUSTER_FILE.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CommandFailed("There is no local cluster yet. Run `make demo`.") from None
        return cls(
            kubeconfig=ROOT / facts["kubeconfig"],
            kubectl_program=facts.get("kubectl") or shutil.which("kubectl") or "kubectl",
            images=facts["images"],
            first_node_port=facts["node_ports"]["first"],
            first_host_port=facts["node_ports"]["host_first"],
            node_ports=facts["node_ports"]["count"],
        )

    def kubectl(self, namespace: str) -> Kubectl:
        """Return kubectl for a namespace of this cluster."""
        return Kubectl(self.kubeconfig, namespace, self.kubectl_program)


def run(command: Sequence[str | Path], *, within_s: float) -> str:
    """Run a command of the repository. Return its output. Raises CommandFailed with its last lines."""
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=within_s, check=False
    )
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-20:])
        raise CommandFailed(f"{' '.join(map(str, command))}: {tail}")
    return result.stdout
