"""The schema of `crds/pushcluster.yaml`, and its fields one by one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CRD = yaml.safe_load((Path(__file__).parents[3] / "crds" / "pushcluster.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]
SPEC = ROOT["properties"]["spec"]
Path_ = tuple[str, ...]


def leaves(schema: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, dict[str, Any]]]:
    """Yield every field that holds a value rather than other fields."""
    if schema.get("type") == "object":
        for name, child in schema["properties"].items():
            yield from leaves(child, (*path, name))
    else:
        yield path, schema


LEAVES = dict(leaves(SPEC))
"""The fields of `spec` by their paths."""
