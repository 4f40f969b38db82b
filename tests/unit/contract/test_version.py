import json
import re
import tomllib
from pathlib import Path

from pushcluster_contract.version import VERSION

ROOT = Path(__file__).parents[3]


def test_the_programs_know_the_version_of_the_distribution() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["version"] == VERSION


def test_the_manifests_install_the_images_of_this_version() -> None:
    tags = [
        match
        for path in sorted((ROOT / "manifests").rglob("*.yaml"))
        for match in re.findall(r"pushcluster/(\w+):([\w.]+)", path.read_text(encoding="utf-8"))
    ]
    assert {name for name, _ in tags} == {"operator", "gateway", "dispatcher", "page"}
    assert {tag for _, tag in tags} == {VERSION}


def test_the_sample_page_has_the_version_of_the_distribution() -> None:
    for name in ("package.json", "package-lock.json"):
        assert json.loads((ROOT / "page" / name).read_text(encoding="utf-8"))["version"] == VERSION, name


def test_the_changelog_has_a_section_for_this_version() -> None:
    assert f"\n## [{VERSION}] - 20" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
