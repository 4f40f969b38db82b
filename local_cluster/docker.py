"""Images of the Docker engine: which exist, and how to build one."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local_cluster.engine import find_builder
from local_cluster.process import output_of, run

CONTENT_LABEL: Final = "dev.pushcluster.content"
"""The image label that holds the fingerprint of what the image was made of."""

_builder = functools.cache(find_builder)


def image_id(tag: str) -> str | None:
    """Return the id of a local image, or None."""
    found = output_of(["docker", "image", "inspect", "--format", "{{.Id}}", tag])
    return found.strip() if found else None


def content_of(tag: str) -> str | None:
    """Return the fingerprint in the label of one of the project's images, or None."""
    found = output_of(
        ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{CONTENT_LABEL}"}}}}', tag]
    )
    return found.strip() if found and found.strip() else None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One `docker build`. `content` is the fingerprint of everything that goes into the image."""

    tag: str
    content: str
    context: Path
    dockerfile: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    network: str = "host"

    def is_built(self) -> bool:
        """Tell whether the image exists and was made from the same things."""
        return content_of(self.tag) == self.content


def plan_build(recipe: Recipe, program: str) -> list[str]:
    """Return the command that builds the image."""
    command = [program, "build", "--network", recipe.network, "--tag", recipe.tag, "--file", str(recipe.dockerfile)]
    for name, value in {CONTENT_LABEL: recipe.content, **recipe.labels}.items():
        command += ["--label", f"{name}={value}"]
    for name, value in recipe.arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if recipe.target is not None:
        command += ["--target", recipe.target]
    return [*command, str(recipe.context)]


def build_image(recipe: Recipe, log: Path) -> None:
    """Build and tag the image.

    Raises CannotContinue if the build fails.
    """
    builder = _builder()
    run(plan_build(recipe, builder.program), log=log, what=f"Building {recipe.tag}", env=builder.environment())
