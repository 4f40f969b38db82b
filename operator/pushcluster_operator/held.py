"""Which children wait because a value that they are built from is not stored.

A value that no Secret holds is made anew at the next look. Were it to reach another child, that child would change at
every look, and with it the pods.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pushcluster_operator.children import build_children
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.drift import is_drifted
from pushcluster_operator.manifest import Manifest, ObjectKey, key_of


def find_unstored(desired: Iterable[Manifest], secrets: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the names of desired Secrets whose values the live ones (by name) do not hold, whoever owns those."""
    return {
        manifest["metadata"]["name"]
        for manifest in desired
        if manifest["kind"] == "Secret"
        and is_drifted({"data": manifest["data"]}, secrets.get(manifest["metadata"]["name"], {}))
    }


def find_dependents(desired: Iterable[Manifest], inputs: Inputs, unstored: set[str]) -> set[ObjectKey]:
    """Return the children that would be others if the values of the `unstored` Secrets were others."""
    blanked = inputs.credentials.blank(inputs.names, unstored)
    others = build_children(inputs.cluster, blanked, inputs.images, producer_released=inputs.producer_released)
    by_key = {key_of(manifest): manifest for manifest in others}
    return {key_of(manifest) for manifest in desired if by_key[key_of(manifest)] != manifest}
