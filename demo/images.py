"""Images by content: a rebuilt program gets another name, so that applying the manifests again rolls what runs it.

The local cluster loads every build under the same tag, the project's version; Kubernetes would see nothing changed.
"""

from collections.abc import Mapping
from typing import Final

from demo.kubectl import Cluster, run

PROGRAMS: Final = ("operator", "gateway", "dispatcher", "page")
_ID_CHARS: Final = 12


def build_pinned(images: Mapping[str, str], image_ids: Mapping[str, str]) -> dict[str, str]:
    """Return `images` with each program's id behind its tag: `pushcluster/gateway:0.1.0-8a13dee0c7b7`."""
    pinned = dict(images)
    for program in PROGRAMS:
        pinned[program] = f"{images[program]}-{image_ids[program].removeprefix('sha256:')[:_ID_CHARS]}"
    return pinned


def pin_images(cluster: Cluster) -> dict[str, str]:
    """Give the programs' images their pinned names in every worker, and return all images by part."""
    pinned = build_pinned(cluster.images, cluster.image_ids)
    nodes = cluster.kubectl("default").items("nodes", "--selector", "!node-role.kubernetes.io/control-plane")
    for node in (item["metadata"]["name"] for item in nodes):
        for program in PROGRAMS:
            names = [f"docker.io/{name}" for name in (cluster.images[program], pinned[program])]
            run(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "tag", "--force", *names], within_s=30)
    return pinned
