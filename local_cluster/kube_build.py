"""Compiles Kubernetes, and everything that belongs to it, from its Go modules."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local_cluster.errors import CannotContinue
from local_cluster.fingerprint import fingerprint
from local_cluster.process import output_of, run
from local_cluster.settings import KUBERNETES_VERSION, Places

GO_MINIMUM: Final = (1, 24)
PACKAGES: Final = 3180
"""How many lines the compiler writes with an empty cache, one for each package or module. It measures progress."""

# Without debug information and inlining, the compiler needs little more than half the time. Nobody measures Kubernetes
# here.
_COMPILER: Final = "all=-dwarf=false -l"


def linker_flags(version: str) -> str:
    """Return the flags that set the version in Kubernetes' programs, as its own build does."""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    facts = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "none",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in facts.items())])


def parse_go_version(text: str) -> tuple[int, int] | None:
    """Return the major and minor version from the output of `go version`, or None."""
    found = re.search(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class GoBuild:
    """One compilation of packages in local_cluster/go. The cache keeps it under the fingerprint of its sources."""

    places: Places
    packages: tuple[str, ...]
    log_name: str
    links: tuple[str, ...] = ()
    """Other names of the first package's binary."""

    @property
    def content(self) -> str:
        """The fingerprint of sources, locked modules and flags."""
        folder = self.places.source / "go"
        return fingerprint(_COMPILER, linker_flags(KUBERNETES_VERSION), *self.packages, paths=[folder])

    @property
    def folder(self) -> Path:
        """Where the binaries are."""
        return self.places.cache / "go" / self.content

    @property
    def log(self) -> Path:
        """The compiler's output, with one package on each line."""
        return self.places.log(self.log_name)

    def is_built(self) -> bool:
        """Tell whether the binaries exist."""
        return self.folder.is_dir()

    def build(self) -> None:
        """Compile.

        Raises CannotContinue if there is no Go of `GO_MINIMUM` or later, or if the compiler fails.
        """
        _require_go()
        partial = self.folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self.log.unlink(missing_ok=True)
        flags = ["-v", "-trimpath", "-buildvcs=false", f"-gcflags={_COMPILER}"]
        run(
            ["go", "build", *flags, "-ldflags", linker_flags(KUBERNETES_VERSION), "-o", f"{partial}/", *self.packages],
            log=self.log,
            what="Compiling Kubernetes",
            cwd=self.places.source / "go",
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""},
        )
        for name in self.links:
            (partial / name).symlink_to(Path(self.packages[0]).name)
        partial.rename(self.folder)

    def share(self) -> float:
        """Return how much of the compilation is done, from 0 to 1."""
        try:
            lines = self.log.read_bytes().count(b"\n")
        except OSError:
            return 0.0
        return min(lines / PACKAGES, 0.99)


def _require_go() -> None:
    version = parse_go_version(output_of(["go", "version"]) or "")
    if version is None or version < GO_MINIMUM:
        wanted = ".".join(map(str, GO_MINIMUM))
        raise CannotContinue(
            f"The cluster's programs are compiled here, which needs Go {wanted} or later. Install it and run the "
            "command again. Or let this machine reach docker.io, and install kind and kubectl."
        )


def cluster_binary(places: Places) -> GoBuild:
    """Return the build of the single binary in the node image."""
    return GoBuild(places, ("./kube", "./pause"), "kubernetes", links=("kind", "kubectl"))


def host_tools(places: Places) -> GoBuild:
    """Return the build of kind and kubectl for a machine that pulls its node image."""
    return GoBuild(places, ("sigs.k8s.io/kind", "k8s.io/kubernetes/cmd/kubectl"), "kind")
