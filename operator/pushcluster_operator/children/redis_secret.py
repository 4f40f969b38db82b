"""Secret `<cluster>-redis`: the password, alone and as a line of configuration."""

from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.secret import build_secret
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest


def build(inputs: Inputs) -> Manifest:
    """Build the Secret."""
    password = inputs.credentials.redis_password
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    values = {"password": password, "auth.conf": f'requirepass "{quoted}"\n'}
    return build_secret(inputs, inputs.names.redis, Component.REDIS, values)
