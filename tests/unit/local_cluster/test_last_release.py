"""The images that the upgrade test rolls from."""

import subprocess
from pathlib import Path

import pytest

from local_cluster.app_images import AppImage
from local_cluster.errors import CannotContinue
from local_cluster.last_release import LAST_RELEASE, PROGRAMS, provide_sources, release_images
from local_cluster.settings import Places, current_places


def places(root: Path, tmp_path: Path) -> Places:
    return Places(root=root, cache=tmp_path / "cache")


def test_its_sources_come_from_the_history(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    command = ["git", "clone", "--quiet", "--shared", "--no-checkout", str(current_places().root), str(clone)]
    subprocess.run(command, check=True)
    release = provide_sources(places(clone, tmp_path))
    assert release.version() == LAST_RELEASE.version
    assert release == provide_sources(places(clone, tmp_path)), "the second time they are there"
    images = release_images(release, "python")
    own = {AppImage(current_places(), program, "python").name for program in PROGRAMS}
    assert own.isdisjoint(image.name for image in images.values())
    assert all(path.exists() for image in images.values() for path in [image.recipe().dockerfile])


def test_a_clone_without_the_history_is_told_how_to_get_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    with pytest.raises(CannotContinue, match="git fetch --unshallow"):
        provide_sources(places(tmp_path, tmp_path))
    assert not any((tmp_path / "build").rglob("*"))
