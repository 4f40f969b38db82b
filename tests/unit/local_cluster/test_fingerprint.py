"""A fingerprint changes when, and only when, what it stands for does."""

from pathlib import Path

import pytest

from local_cluster.fingerprint import fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "a.py").write_text("a")
    return folder


def test_the_same_things_have_the_same_fingerprint_wherever_the_checkout_lies(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "clone" / "package"
    other.mkdir(parents=True)
    (other / "a.py").write_text("a")
    assert fingerprint("x", paths=[folder]) == fingerprint("x", paths=[other])


def test_content_name_and_text_all_count(folder: Path) -> None:
    seen = {fingerprint("x", paths=[folder]), fingerprint("y", paths=[folder]), fingerprint("x", "", paths=[folder])}
    (folder / "a.py").write_text("b")
    seen.add(fingerprint("x", paths=[folder]))
    (folder / "a.py").rename(folder / "b.py")
    seen.add(fingerprint("x", paths=[folder]))
    (folder / "c.py").write_text("")
    seen.add(fingerprint("x", paths=[folder]))
    assert len(seen) == 6


def test_byte_code_does_not_count(folder: Path) -> None:
    before = fingerprint(paths=[folder])
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("code")
    assert fingerprint(paths=[folder]) == before


def test_a_missing_file_is_an_error_and_not_a_change(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fingerprint(paths=[tmp_path / "absent"])
