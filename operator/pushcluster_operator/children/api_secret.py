"""Secret `<cluster>-api`: the bearer key of the dispatchers' HTTP API."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.secret import build_secret
from pushcluster_operator.kube.credentials import API_KEY
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest | None:
    """Build the Secret; none when the API is off."""
    if not inputs.cluster.spec.dispatcher.api_enabled:
        return None
    return build_secret(inputs, inputs.names.api, Component.DISPATCHER, {API_KEY: inputs.credentials.api_key})
