import tomllib
from pathlib import Path

from pushcluster_contract.version import VERSION


def test_the_programs_know_the_version_of_the_distribution() -> None:
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"] == VERSION
