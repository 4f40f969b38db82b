"""The gateway and the dispatcher of the last release, for the test that rolls from it to this version."""

import io
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import Final

from local_cluster.app_images import AppImage
from local_cluster.errors import CannotContinue
from local_cluster.settings import Places


@dataclass(frozen=True, slots=True)
class Release:
    """A released version."""

    version: str
    commit: str


LAST_RELEASE: Final = Release("0.2.0", "9e2e95e55411a81c025981d1d467c5e157a9583d")
"""Set to the new release when the version is raised after it."""
PROGRAMS: Final = ("gateway", "dispatcher")
"""What rolls while users are connected and messages are under way."""


def part_name(program: str) -> str:
    """Return the name of a program of the last release in build/cluster.json."""
    return f"last-{program}"


def provide_sources(places: Places) -> Places:
    """Return the directories of a checkout of the last release below `build/`. Make it from the history of this clone.

    Raises CannotContinue if the clone does not have the commit.
    """
    release = Places(root=places.build / "last-release" / LAST_RELEASE.commit, cache=places.cache)
    if release.root.is_dir():
        return release
    command = ["git", "-C", str(places.root), "archive", "--format=tar", LAST_RELEASE.commit]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        raise CannotContinue(
            f"The sources of {LAST_RELEASE.version} are not in this clone's history, and the upgrade test needs them. "
            f"Run `git fetch --unshallow`. git said: {archive.stderr.decode(errors='replace').strip()}"
        )
    partial = release.root.with_suffix(f".partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(partial, filter="data")
    partial.rename(release.root)
    return release


def release_images(release: Places, python_image: str) -> dict[str, AppImage]:
    """Return the images of the last release, by their names in build/cluster.json.

    The version alone would not do as their tag: this checkout has the same until its own release.
    """
    tag = f"{LAST_RELEASE.version}-released"
    return {part_name(program): AppImage(release, program, python_image, tag) for program in PROGRAMS}
