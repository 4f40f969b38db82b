"""Builds the image from which kind makes nodes."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local_cluster.base_images import BASE, base_content
from local_cluster.docker import CONTENT_LABEL, Recipe, build_image, content_of
from local_cluster.errors import CannotContinue
from local_cluster.fingerprint import fingerprint
from local_cluster.kube_build import GoBuild
from local_cluster.loading import identities, import_images, note_images, tag_image
from local_cluster.process import answer_of, output_of, run
from local_cluster.settings import KUBERNETES_VERSION, Places

PUBLIC: Final = "kindest/node:v1.34.0"
LOCAL: Final = f"pushcluster/node:{KUBERNETES_VERSION}-local"
TOOLS: Final = "pushcluster/node-tools:local"
KUBERNETES: Final = "pushcluster/kubernetes:local"
PAUSE: Final = "pushcluster/pause:local"
_HELPER: Final = "pushcluster-node-image"
_WITH_STORES: Final = "with the images of Redis and RabbitMQ"
"""Their contents do not count: an image that changed later is loaded into the nodes like any other."""
_CONTAINERD_LIMIT_S: Final = 30


def plan_names(listed: str) -> dict[str, list[str]]:
    """Return the names that PAUSE and KUBERNETES must have in a node, from `kubeadm config images list`."""
    names = listed.split()
    pause = [name for name in names if "/pause:" in name]
    return {PAUSE: pause, KUBERNETES: [name for name in names if name not in pause]}


@dataclass(frozen=True, slots=True)
class NodeImage:
    """The node image of this checkout, built from `binary`."""

    places: Places
    binary: GoBuild

    @property
    def _folder(self) -> Path:
        return self.places.source / "images" / "node"

    @property
    def content(self) -> str:
        """The fingerprint of everything in the image."""
        return fingerprint(base_content(), self.binary.content, _WITH_STORES, paths=[self._folder])

    def is_built(self) -> bool:
        """Tell whether the image exists and was made from the same things."""
        return content_of(LOCAL) == self.content

    def tools(self) -> Recipe:
        """Return the recipe of the part that does not need the binary, so it can be built in parallel."""
        # BuildKit builds only the stages that are needed, but the context must contain something to send.
        return Recipe(
            tag=TOOLS,
            content=fingerprint(base_content(), paths=[self._folder / "Dockerfile"]),
            context=self._folder,
            dockerfile=self._folder / "Dockerfile",
            arguments={"BASE": BASE},
            target="tools",
        )

    def build(self, stores: Sequence[str]) -> None:
        """Build the node image. It contains the control plane's images and those of `stores`, which seldom change.

        Raises CannotContinue if a part of it fails.
        """
        log = self.places.log("node-image")
        context = self._fill_context()
        for target, tag in (("kubernetes", KUBERNETES), ("pause", PAUSE), ("node", TOOLS)):
            recipe = Recipe(
                tag=tag,
                content=self.content,
                context=context,
                dockerfile=self._folder / "Dockerfile",
                arguments={"BASE": BASE, "KUBERNETES_VERSION": KUBERNETES_VERSION},
                target=target,
            )
            build_image(recipe, log)
        self._add_images(stores, log)

    def _fill_context(self) -> Path:
        context = self.places.cache / "node-context"
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree(self._folder, context / "node")
        for name in ("kube", "pause"):
            (context / name).hardlink_to(self.binary.folder / name)
        return context

    def _add_images(self, stores: Sequence[str], log: Path) -> None:
        """Import the images into a helper container's containerd, and commit that container as the node image."""
        _remove_helper()
        run(
            ["docker", "run", "--detach", "--privileged", "--name", _HELPER, "--entrypoint", "containerd", TOOLS],
            log=log,
            what="Starting containerd in a helper container",
        )
        try:
            _wait_for_containerd()
            self._import(stores, log)
            run(["docker", "stop", "--time", "20", _HELPER], log=log, what="Stopping the helper container")
            changes = [
                "--change",
                'ENTRYPOINT ["/usr/local/bin/entrypoint"]',
                "--change",
                f"LABEL {CONTENT_LABEL}={self.content}",
            ]
            run(["docker", "commit", *changes, _HELPER, LOCAL], log=log, what="Writing the node image")
        finally:
            _remove_helper()

    def _import(self, stores: Sequence[str], log: Path) -> None:
        import_images([_HELPER], [KUBERNETES, PAUSE, *stores], log)
        note_images(_HELPER, identities(stores), log)
        command = ["docker", "exec", _HELPER, "kubeadm", "config", "images", "list"]
        listed = answer_of(
            [*command, "--kubernetes-version", KUBERNETES_VERSION], what="Asking kubeadm for the names of its images"
        )
        for image, names in plan_names(listed).items():
            tag_image(_HELPER, image, names, log)


def _remove_helper() -> None:
    subprocess.run(["docker", "rm", "--force", "--volumes", _HELPER], capture_output=True, check=False)


def _wait_for_containerd() -> None:
    deadline = time.monotonic() + _CONTAINERD_LIMIT_S
    while output_of(["docker", "exec", _HELPER, "ctr", "version"]) is None:
        if time.monotonic() > deadline:
            raise CannotContinue(
                f"containerd does not start inside a container. See `docker logs {_HELPER}`. "
                "Privileged containers must be allowed here."
            )
        time.sleep(0.2)
