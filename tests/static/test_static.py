"""ruff, mypy strict and import-linter are tests like any other."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "--no-cache"),
        ("ruff", "format", "--no-cache", "--check"),
        ("mypy",),
        ("lint-imports", "--no-cache"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_the_code_passes(command: tuple[str, ...]) -> None:
    result = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_committed_file_names_a_registry_or_a_path_of_one_machine() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    forbidden = (
        "pypi" + ".org",
        "registry.npmjs" + ".org",
        "deb.debian" + ".org",
        "proxy.golang" + ".org",
        "/work/" + "main",
    )
    found = [
        (name, word)
        for name in files.split("\0")
        if name and (ROOT / name).is_file()
        for word in forbidden
        if word in (ROOT / name).read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


PROGRAMS = {"operator": "operator", "gateway": "gateway_image", "dispatcher": "dispatcher_image", "page": "page"}
"""Program to its folder."""
SLIMMER = ("# The client's methods", "RUN cd /venv/", "RUN python -B -c ")
"""What makes the operator's image smaller, and shows that it still starts."""


def test_the_dockerfiles_of_all_programs_are_one_but_for_what_they_copy_serve_and_set() -> None:
    """A Dockerfile cannot include another one, and each is to build by itself on any machine."""

    def common(program: str, folder: str) -> list[str]:
        lines = (ROOT / folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
        own = ("# Build with", f"COPY {folder}/", "COPY contract/", "COPY runtime/", "ENV ", "EXPOSE ", *SLIMMER)
        return [line.replace(program, "PROGRAM") for line in lines if not line.startswith(own)]

    texts = {program: common(program, folder) for program, folder in PROGRAMS.items()}
    assert len(texts["gateway"]) > 15
    for program, text in texts.items():
        assert text == texts["gateway"], program
