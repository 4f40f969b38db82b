"""What is wrong with the Secrets whose keys gateways check tokens with. The operator says it before a gateway fails."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import HS256_KEY, HS256_SECOND_KEY, MIN_HS256_BYTES, parse_shared_key
from pushcluster_operator.kube.credentials import read_as_it_stands
from pushcluster_operator.kube.manifest import decode_data
from pushcluster_operator.spec.auth import Auth, SecretKey
from pushcluster_operator.status.pods import Trouble

Secrets = Mapping[str, Mapping[str, Any]]
"""Secrets by name, as the API server returns them."""


def find_auth_troubles(auth: Auth, secrets: Secrets, generated: str) -> list[Trouble]:
    """Return what keeps gateways from checking tokens as `spec.gateway.auth` asks.

    `generated` names the Secret with the key that the operator generates. People may write into it too.
    """
    troubles: list[Trouble | None] = []
    if auth.secret_name is not None:
        mend = f"gateway.auth.secretRef needs its key {HS256_KEY} with at least {MIN_HS256_BYTES} bytes"
        troubles.append(_check_shared_keys(auth.secret_name, secrets, mend))
    elif auth.generates_key and read_as_it_stands(secrets.get(generated, {}), HS256_KEY):
        mend = f"write at least {MIN_HS256_BYTES} bytes, or delete the Secret, and the operator generates a new key"
        troubles.append(_check_shared_keys(generated, secrets, mend))
    if auth.jwks.secret is not None:
        troubles.append(_check_jwks(auth.jwks.secret, secrets))
    if auth.jwks.ca_secret is not None:
        troubles.append(_check_authorities(auth.jwks.ca_secret, secrets))
    return [trouble for trouble in troubles if trouble is not None]


def _check_shared_keys(name: str, secrets: Secrets, mend: str) -> Trouble | None:
    if name not in secrets:
        return Trouble("SecretMissing", f"Secret {name} does not exist; create it: {mend}")
    held = secrets[name].get("data") or {}
    if HS256_KEY not in held:
        return Trouble("SecretIncomplete", f"Secret {name} has no key {HS256_KEY}: {mend}")
    for key in (HS256_KEY, HS256_SECOND_KEY):
        if key not in held:
            continue
        try:
            parse_shared_key(base64.b64decode(held[key]), name=f"{key} in Secret {name}")
        except InvalidInput as error:
            return Trouble("KeyUnusable", f"{error}: {mend}")
    return None


def _check_jwks(reference: SecretKey, secrets: Secrets) -> Trouble | None:
    mend = f"gateway.auth.jwks.secretRef needs its key {reference.key} with a JWK set (RFC 7517)"
    text, trouble = _read(reference, secrets, mend)
    if text is None:
        return trouble
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        return Trouble("NoJwks", f"{reference.key} in Secret {reference.name} is not a JWK set: {mend}")
    return None


def _check_authorities(reference: SecretKey, secrets: Secrets) -> Trouble | None:
    mend = f"gateway.auth.jwks.caSecretRef needs its key {reference.key} with certificates in PEM form"
    text, trouble = _read(reference, secrets, mend)
    if text is not None and "-----BEGIN CERTIFICATE-----" not in text:
        return Trouble("NoCertificates", f"{reference.key} in Secret {reference.name} has no certificate: {mend}")
    return trouble


def _read(reference: SecretKey, secrets: Secrets, mend: str) -> tuple[str | None, Trouble | None]:
    if reference.name not in secrets:
        return None, Trouble("SecretMissing", f"Secret {reference.name} does not exist; create it: {mend}")
    text = decode_data(secrets[reference.name]).get(reference.key)
    if text is None:
        return None, Trouble("SecretIncomplete", f"Secret {reference.name} has no text under {reference.key}: {mend}")
    return text, None
