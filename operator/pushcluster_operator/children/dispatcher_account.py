"""ServiceAccount `<cluster>-dispatcher`."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.service import build_account
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest:
    """Build the ServiceAccount."""
    return build_account(inputs, inputs.names.dispatcher, Component.DISPATCHER)
