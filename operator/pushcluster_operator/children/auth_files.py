"""The files from which a gateway checks tokens: Secrets, mounted so that a change reaches the pod without a restart.

Everything is optional to Kubernetes: a gateway that misses a key starts, is not ready, and says which one.
"""

from typing import Final

from pushcluster_contract.tokens import CA_FILE, HS256_KEY, HS256_SECOND_KEY, JWKS_FILE, KEYS_DIRECTORY
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec.auth import AuthMode, SecretKey

_VOLUME: Final = "auth"
_OWNER_AND_GROUP: Final = 0o440

MOUNT: Final[Manifest] = {"name": _VOLUME, "mountPath": KEYS_DIRECTORY, "readOnly": True}


def build_volume(inputs: Inputs) -> Manifest | None:
    """Return the volume; None when no token is checked, or the keys come over the network alone."""
    auth = inputs.cluster.spec.gateway.auth
    if auth.mode is not AuthMode.JWT:
        return None
    sources: list[Manifest] = []
    if not auth.algorithm.has_public_keys:
        names = {HS256_KEY: HS256_KEY, HS256_SECOND_KEY: HS256_SECOND_KEY}
        sources.append(_source(auth.secret_name or inputs.names.jwt, names))
    for reference, file in ((auth.jwks.secret, JWKS_FILE), (auth.jwks.ca_secret, CA_FILE)):
        if isinstance(reference, SecretKey):
            sources.append(_source(reference.name, {reference.key: file}))
    if not sources:
        return None
    return {"name": _VOLUME, "projected": {"defaultMode": _OWNER_AND_GROUP, "sources": sources}}


def _source(secret: str, files: dict[str, str]) -> Manifest:
    items = [{"key": key, "path": path} for key, path in files.items()]
    return {"secret": {"name": secret, "items": items, "optional": True}}
