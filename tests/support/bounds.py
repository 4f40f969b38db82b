"""Every named bound of a program with its value, in one list: a change of one is deliberate, and a review shows it.

`pytest tests/unit -k agreed_on --rewrite-golden` writes the lists anew.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

OWN: Final = r"^{}: Final(\[\w+\])? = "
"""A constant belongs to the module that assigns it, not to those that import it."""


def check_bounds(package: ModuleType, golden: Path, request: pytest.FixtureRequest) -> None:
    """Compare the numbers that a package's modules name with those in `golden`, or write them there."""
    found = "\n".join(sorted(_bounds(package))) + "\n"
    if request.config.getoption("--rewrite-golden"):
        golden.write_text(found, encoding="utf-8")
    assert found.count("\n") > 5
    assert found == golden.read_text(encoding="utf-8")


def _bounds(package: ModuleType) -> Iterator[str]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        for name, value in vars(module).items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and re.search(OWN.format(re.escape(name)), source, re.MULTILINE):
                yield f"{module.__name__}.{name} = {value:,}"
