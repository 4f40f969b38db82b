"""Secrets: the form that all of them share."""

from collections.abc import Mapping

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest, encode_data


def build_secret(inputs: Inputs, name: str, component: Component, values: Mapping[str, str]) -> Manifest:
    """Return an opaque Secret with these texts."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": inputs.metadata(name, component),
        "data": encode_data(values),
    }
