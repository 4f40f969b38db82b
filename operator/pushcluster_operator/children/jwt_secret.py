"""Secret `<cluster>-jwt`: the generated key that signs and checks JWTs."""

from pushcluster_contract.tokens import HS256_KEY
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.secret import build_secret
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest | None:
    """Build the Secret; none when the author brings a key, or no key is asked for."""
    if not inputs.cluster.spec.gateway.auth.generates_key:
        return None
    return build_secret(inputs, inputs.names.jwt, Component.GATEWAY, {HS256_KEY: inputs.credentials.jwt_key})
