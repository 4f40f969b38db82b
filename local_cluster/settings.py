"""Names, versions, ports and directories of the local cluster."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLUSTER: Final = "pushcluster"
CONTROL_PLANE: Final = f"{CLUSTER}-control-plane"
WORKERS: Final = (f"{CLUSTER}-worker", f"{CLUSTER}-worker2")
NODES: Final = (CONTROL_PLANE, *WORKERS)

KUBERNETES_VERSION: Final = "v1.34.4"
POD_SUBNET: Final = "10.244.0.0/16"
SERVICE_SUBNET: Final = "10.96.0.0/16"

PROGRAMS: Final = ("operator", "gateway", "dispatcher", "page")
"""The project's own images, named `pushcluster/PROGRAM:VERSION`."""


@dataclass(frozen=True, slots=True)
class NodePorts:
    """Port `first + n` of the control plane's container answers at 127.0.0.1 on port `host_first + n`."""

    first: int
    host_first: int
    count: int

    def host_ports(self) -> range:
        """Return the ports that are used on 127.0.0.1."""
        return range(self.host_first, self.host_first + self.count)


NODE_PORTS: Final = NodePorts(first=30080, host_first=18080, count=20)


@dataclass(frozen=True, slots=True)
class Places:
    """Directories: `build/` for the state of this checkout, the cache for what a new clone can use too."""

    root: Path
    cache: Path

    @classmethod
    def from_environment(cls, root: Path, environment: Mapping[str, str]) -> "Places":
        """Return the directories for the checkout at `root`. XDG_CACHE_HOME sets where the cache is."""
        base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(root=root, cache=Path(base) / "pushcluster")

    @property
    def source(self) -> Path:
        """The directory of this package."""
        return self.root / "local_cluster"

    @property
    def build(self) -> Path:
        """Where commands of this checkout write."""
        return self.root / "build"

    @property
    def logs(self) -> Path:
        """Where tools write their output, one file for each step."""
        return self.build / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the cluster."""
        return self.build / "kubeconfig"

    @property
    def cluster_file(self) -> Path:
        """The file that tells the demo, the tests and `make run` about the cluster and the images."""
        return self.build / "cluster.json"

    def log(self, name: str) -> Path:
        """Return the log file of a step. Create its directory if necessary."""
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"{name}.log"

    def version(self) -> str:
        """Return the project's version, which is the tag of its images."""
        project = tomllib.loads((self.root / "pyproject.toml").read_text())
        return str(project["project"]["version"])


def current_places() -> Places:
    """Return the directories for the checkout that contains this package."""
    return Places.from_environment(Path(__file__).resolve().parent.parent, os.environ)
