"""The documents about the code name files that exist, and leave no package out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABOUT_THE_CODE = [
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs" / "internals").glob("*.md")),
]
PACKAGES = sorted(
    f"{init.parent.relative_to(ROOT)}/"
    for folder in ("contract", "runtime", "operator", "gateway_image", "dispatcher_image", "page")
    for init in ROOT.glob(f"{folder}/pushcluster_*/**/__init__.py")
)

BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
IN_BACKTICKS = re.compile(r"`([^`\n]+)`")
LOOKS_LIKE_A_FILE = re.compile(r"[\w.][\w./-]*(?:\.(?:json|lua|md|py|toml|txt|ya?ml)|/)")
NAME_IN_FILE = re.compile(r"`(\w+)`\s+in\s+`([\w/.-]+\.py)`")
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MADE_BY_A_RUN = "build/"


def named_files(text: str) -> list[str]:
    """Return what stands in backticks and looks like a file or a folder of the repository."""
    spans = IN_BACKTICKS.findall(BLOCK.sub("", text))
    return [span for span in spans if LOOKS_LIKE_A_FILE.fullmatch(span) and not span.startswith(MADE_BY_A_RUN)]


def anchors(document: Path) -> set[str]:
    """Return what links to this document's headings may end with, as GitHub makes it."""
    headings = HEADING.findall(BLOCK.sub("", document.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", ABOUT_THE_CODE, ids=lambda path: str(path.relative_to(ROOT)))
class TestDocument:
    """Paths begin at the root, so that a reader can open them; links begin at the document."""

    def test_every_file_that_it_names_exists(self, document: Path) -> None:
        named = named_files(document.read_text(encoding="utf-8"))
        assert [name for name in named if not (ROOT / name).exists()] == []

    def test_what_it_says_stands_in_a_file_stands_there(self, document: Path) -> None:
        said = NAME_IN_FILE.findall(document.read_text(encoding="utf-8"))
        assert [(name, file) for name, file in said if not re.search(rf"\b{name}\b", (ROOT / file).read_text())] == []

    def test_every_link_leads_somewhere(self, document: Path) -> None:
        links = LINK.findall(document.read_text(encoding="utf-8"))
        targets = [(document.parent / path if path else document, anchor) for path, anchor in links]
        assert [target for target, anchor in targets if not target.exists()] == []
        assert [(target, anchor) for target, anchor in targets if anchor and anchor not in anchors(target)] == []


def test_the_code_map_leaves_no_package_out() -> None:
    assert len(PACKAGES) > 20
    named = named_files((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert [package for package in PACKAGES if package not in named] == []
