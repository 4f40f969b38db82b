"""Computes a short text that changes when anything changes from which a thing is made."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_SKIPPED = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not _SKIPPED.intersection(file.parts))


def fingerprint(*parts: str, paths: Iterable[Path] = ()) -> str:
    """Return 16 hexadecimal digits, computed from the texts and from the names and contents of the files.

    A folder stands for all files in it. Byte code and caches do not count. A missing path is a programming error.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(path)
        for file in _files(path):
            digest.update(str(file.relative_to(path.parent)).encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
