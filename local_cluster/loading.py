"""Images from the Docker engine into the cluster's nodes."""

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
"""On each node: image name to id, as last imported there."""
_CHUNK_BYTES: Final = 1 << 20


def plan_loading(wanted: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Return the names of the images whose id in a node is not the one wanted."""
    return [name for name, identity in wanted.items() if present.get(name) != identity]


def identities(names: Sequence[str]) -> dict[str, str]:
    """Return the id of each image.

    Raises CannotContinue when one is not there.
    """
    found = {name: image_id(name) for name in names}
    missing = [name for name, identity in found.items() if identity is None]
    if missing:
        raise CannotContinue(f"{', '.join(missing)}: no such image; run `python3 -m local_cluster images`.")
    return {name: identity for name, identity in found.items() if identity is not None}


def _present(node: str) -> dict[str, str]:
    record = output_of(["docker", "exec", node, "cat", _RECORD])
    return json.loads(record) if record else {}


def load_images(names: Sequence[str], log: Path) -> list[str]:
    """Bring the workers' images up to date and return the names of those that changed.

    Only the workers run pods of ours. One stream out of Docker feeds all of them.
    """
    wanted = identities(names)
    present = {node: _present(node) for node in WORKERS}
    changed = [name for name in wanted if any(name in plan_loading(wanted, present[node]) for node in WORKERS)]
    if changed:
        _copy(changed, log)
        for node in WORKERS:
            record = json.dumps({**present[node], **{name: wanted[name] for name in changed}})
            write = ["docker", "exec", "-i", node, "cp", "/dev/stdin", _RECORD]
            run(write, log=log, what=f"Noting the images of {node}", stdin=record.encode())
    return changed


def _copy(names: Sequence[str], log: Path) -> None:
    with log.open("ab") as output:
        importers = [
            subprocess.Popen(
                [
                    "docker",
                    "exec",
                    "-i",
                    node,
                    "ctr",
                    "-n",
                    "k8s.io",
                    "images",
                    "import",
                    "--no-unpack",
                    "-",
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
            for node in WORKERS
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
        raise failed("Copying images to the nodes", log)


def _tee(source: "subprocess.Popen[bytes]", targets: "Sequence[subprocess.Popen[bytes]]") -> None:
    if source.stdout is None:
        return
    while chunk := source.stdout.read(_CHUNK_BYTES):
        for target in targets:
            if target.stdin is not None:
                target.stdin.write(chunk)
