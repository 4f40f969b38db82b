"""Chooses the images of the services: those of the last cluster, else what the docker engine has."""

import json
from pathlib import Path
from typing import Final

from local_run.docker import docker
from local_run.errors import ImageMissing

CLUSTER_FILE: Final = Path(__file__).parent.parent / "build" / "cluster.json"
"""`local_cluster` writes it; it says which images its cluster runs."""
# The local images come first. If they exist, no registry answered when they were built.
CANDIDATES: Final = {"redis": ("redis:8-local", "redis:8"), "rabbitmq": ("rabbitmq:4.3-local", "rabbitmq:4.3")}


def find_image(service: str, cluster_file: Path = CLUSTER_FILE) -> str:
    """Return the image of `redis` or `rabbitmq`. Raises ImageMissing with the command that makes it."""
    named = named_image(service, cluster_file)
    candidates = (named, *CANDIDATES[service]) if named else CANDIDATES[service]
    for image in candidates:
        if docker("image", "ls", "--quiet", image):
            return image
    raise ImageMissing(
        f"no image of {service} ({' or '.join(candidates)}); run `python3 -m local_cluster images --only data-plane`"
    )


def named_image(service: str, cluster_file: Path) -> str | None:
    """Return the image that `local_cluster` wrote down for a service, or None."""
    try:
        images = json.loads(cluster_file.read_text()).get("images", {})
    except (FileNotFoundError, ValueError):
        return None
    image = images.get(service)
    return image if isinstance(image, str) else None
