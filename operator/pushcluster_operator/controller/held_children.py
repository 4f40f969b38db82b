"""Which children are held back because a value that they are built from is not stored, or cannot be read.

A value that no Secret holds is generated anew in every reconcile. If it reached another child, that child and its pods
would change in every reconcile. If a value that cannot be read reached a child, its new pods would not start.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pushcluster_contract.api_keys import ApiKeys
from pushcluster_contract.errors import InvalidInput
from pushcluster_operator.children import build_children
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.credentials import API_KEY
from pushcluster_operator.kube.drift import is_drifted
from pushcluster_operator.kube.manifest import Manifest, ObjectKey, key_of
from pushcluster_operator.status.pods import Trouble


def find_unstored(desired: Iterable[Manifest], secrets: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the names of desired Secrets whose values the live ones (by name) do not hold.

    It does not matter who owns the live ones.
    """
    return {
        manifest["metadata"]["name"]
        for manifest in desired
        if manifest["kind"] == "Secret"
        and is_drifted({"data": manifest["data"]}, secrets.get(manifest["metadata"]["name"], {}))
    }


def find_unreadable(inputs: Inputs) -> dict[str, Trouble]:
    """Return what is wrong with values that people wrote, by the names of their Secrets.

    These Secrets are left as they are.
    """
    if inputs.cluster.spec.dispatcher.api_enabled:
        try:
            ApiKeys.parse(inputs.credentials.api_key, name=API_KEY)
        except InvalidInput as error:
            message = (
                f"Secret {inputs.names.api} cannot be read and is left as it is: {error}. Correct it. Until then, "
                f"Deployment {inputs.names.dispatcher} waits, and dispatchers run with the keys they started with"
            )
            return {inputs.names.api: Trouble("SecretUnreadable", message)}
    return {}


def find_dependents(desired: Iterable[Manifest], inputs: Inputs, secrets: set[str]) -> set[ObjectKey]:
    """Return the children that would be different if the values of these Secrets were different."""
    blanked = inputs.credentials.blank(inputs.names, secrets)
    others = build_children(inputs.cluster, blanked, inputs.images, producer_released=inputs.producer_released)
    by_key = {key_of(manifest): manifest for manifest in others}
    return {key_of(manifest) for manifest in desired if by_key[key_of(manifest)] != manifest}
