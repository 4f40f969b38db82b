"""Copies images from the Docker engine into the cluster's nodes.

Every build of a program has the same tag, the project's version, so Kubernetes would not notice a change. In the nodes,
the image's name therefore ends in its id. Applying a manifest with the new name rolls the pods of that program.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from local_cluster.docker import image_id
from local_cluster.errors import CannotContinue, failed
from local_cluster.process import output_of, run, started
from local_cluster.settings import WORKERS

_RECORD: Final = "/kind/pushcluster-images.json"
"""A file on each node: the name there and the id of each image, as last imported."""
_CHUNK_BYTES: Final = 1 << 20
_ID_CHARS: Final = 12
_CTR: Final = ("ctr", "-n", "k8s.io", "images")


def pinned_name(name: str, identity: str) -> str:
    """Return a program's image name in the nodes, such as `pushcluster/gateway:0.1.0-8a13dee0c7b7`."""
    return f"{name}-{identity.removeprefix('sha256:')[:_ID_CHARS]}"


def plan_loading(wanted: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Return the names of the images whose id in a node is not the wanted one."""
    return [name for name, identity in wanted.items() if present.get(name) != identity]


def identities(names: Sequence[str]) -> dict[str, str]:
    """Return the id of each image.

    Raises CannotContinue if one does not exist.
    """
    found = {name: image_id(name) for name in names}
    missing = [name for name, identity in found.items() if identity is None]
    if missing:
        raise CannotContinue(f"{', '.join(missing)}: no such image; run `python3 -m local_cluster images`.")
    return {name: identity for name, identity in found.items() if identity is not None}


def import_images(containers: Sequence[str], names: Sequence[str], log: Path) -> None:
    """Copy images into the containerd of each container. One stream from Docker feeds all of them."""
    with log.open("ab") as output:
        command = [*_CTR, "import", "--no-unpack", "-"]
        importers = [
            subprocess.Popen(
                ["docker", "exec", "-i", container, *command], stdin=subprocess.PIPE, stdout=output, stderr=output
            )
            for container in containers
        ]
        save = subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE, stderr=output)
        with started(save):
            try:
                _tee(save, importers)
            except BrokenPipeError as error:
                raise failed("Importing images into a node", log) from error
            finally:
                for importer in importers:
                    if importer.stdin is not None:
                        importer.stdin.close()
                codes = [process.wait() for process in (save, *importers)]
    if any(codes):
        raise failed("Copying images into a node", log)


def tag_image(container: str, name: str, others: Sequence[str], log: Path) -> None:
    """Give an image in a container's containerd further names."""
    names = [f"docker.io/{name}", *others]
    tag = ["docker", "exec", container, *_CTR, "tag", "--force", *names]
    run(tag, log=log, what=f"Naming the image {name} in a node")


def note_images(container: str, images: Mapping[str, str], log: Path) -> None:
    """Record which images a container's containerd holds: name → id."""
    write = ["docker", "exec", "-i", container, "cp", "/dev/stdin", _RECORD]
    run(write, log=log, what=f"Recording the images of {container}", stdin=json.dumps(images).encode())


def _noted_images(node: str) -> dict[str, str]:
    record = output_of(["docker", "exec", node, "cat", _RECORD])
    return json.loads(record) if record else {}


def load_images(images: Mapping[str, str], log: Path) -> list[str]:
    """Bring the workers' images up to date. Return the names of those that changed.

    `images` maps an image's name in the nodes to its name here. Only the workers run the project's pods.
    """
    ids = identities(list(images.values()))
    wanted = {name: ids[ours] for name, ours in images.items()}
    noted = {node: _noted_images(node) for node in WORKERS}
    changed = [name for name in wanted if any(name in plan_loading(wanted, noted[node]) for node in WORKERS)]
    if changed:
        import_images(WORKERS, [images[name] for name in changed], log)
        for node in WORKERS:
            for name in changed:
                if name != images[name]:
                    tag_image(node, images[name], [f"docker.io/{name}"], log)
            note_images(node, noted[node] | {name: wanted[name] for name in changed}, log)
    return changed


def _tee(source: "subprocess.Popen[bytes]", targets: "Sequence[subprocess.Popen[bytes]]") -> None:
    if source.stdout is None:
        return
    while chunk := source.stdout.read(_CHUNK_BYTES):
        for target in targets:
            if target.stdin is not None:
                target.stdin.write(chunk)
