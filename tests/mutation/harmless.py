"""The list of mutants that no test has to kill, each with the reason why it is harmless."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.mutation.mutants import Mutant

Key = tuple[str, str, str, str, int]
FILE: Final = Path(__file__).with_name("harmless.toml")
FIELDS: Final = ("module", "function", "was", "becomes", "number")


def parse_harmless(text: str) -> dict[Key, str]:
    """Return the reason by a mutant's key. Raises ValueError for an entry without reason, or one there twice."""
    reasons: dict[Key, str] = {}
    for entry in tomllib.loads(text).get("harmless", []):
        key: Key = (entry["module"], entry["function"], entry["was"], entry["becomes"], entry.get("number", 1))
        if not entry.get("reason", "").strip():
            raise ValueError(f"no reason is given why this is harmless: {describe(key)}")
        if key in reasons:
            raise ValueError(f"this is there twice: {describe(key)}")
        reasons[key] = entry["reason"]
    return reasons


def find_stale(reasons: Mapping[Key, str], mutants: Iterable[Mutant]) -> list[Key]:
    """Return the entries that fit no mutant any more."""
    there = {each.key for each in mutants}
    return [key for key in reasons if key not in there]


def describe(key: Key) -> str:
    """Return a mutant in one line."""
    module, function, was, becomes, number = key
    return f"{module} {function or '(module)'}: {was} → {becomes}" + (f" (no. {number})" if number > 1 else "")


def build_entry(mutant: Mutant, note: str) -> str:
    """Return an entry for the list, whose reason is still to be written."""
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in zip(FIELDS, mutant.key, strict=True)
    ]
    if mutant.number == 1:
        lines.pop()
    return "\n".join((f"# {note}", "[[harmless]]", *lines, 'reason = ""', ""))
