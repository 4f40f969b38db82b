"""Which Secrets keep gateways from checking tokens."""

import base64

import pytest

from pushcluster_operator.kube.manifest import Manifest, encode_data
from pushcluster_operator.spec.auth import Auth
from pushcluster_operator.spec.reader import Reader
from pushcluster_operator.status.referenced_secrets import find_auth_troubles

BY_URL = {
    "algorithm": "ES256",
    "jwks": {"url": "https://issuer.example/keys", "caSecretRef": {"name": "ca", "key": "ca.crt"}},
}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def find(auth: Manifest, **secrets: Manifest) -> list[tuple[str, str]]:
    read = Auth.read(Reader(auth, "spec.gateway.auth"))
    return [(each.reason, each.message) for each in find_auth_troubles(read, secrets, "generated")]


@pytest.mark.parametrize("before", ["", "# our own authority\n"])
def test_a_certificate_is_no_trouble_whatever_stands_before_it(before: str) -> None:
    assert find(BY_URL, ca={"data": encode_data({"ca.crt": before + CERTIFICATE})}) == []


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (encode_data({"ca.crt": "-----BEGIN PRIVATE KEY-----"}), "NoCertificates", "ca.crt in Secret ca has no"),
        (encode_data({"tls.crt": CERTIFICATE}), "SecretIncomplete", "Secret ca has no text under ca.crt"),
        ({"ca.crt": base64.b64encode(b"\xff").decode()}, "SecretIncomplete", "Secret ca has no text under ca.crt"),
    ],
)
def test_a_secret_without_a_certificate_under_the_key_that_is_named(
    data: dict[str, str], reason: str, says: str
) -> None:
    ((found, message),) = find(BY_URL, ca={"data": data})
    assert found == reason
    assert says in message
    assert "gateway.auth.jwks.caSecretRef needs its key ca.crt with certificates in PEM form" in message


def test_a_secret_with_nothing_in_it_is_named() -> None:
    ((reason, message),) = find({"secretRef": {"name": "mine"}}, mine={"data": None})
    assert (reason, message.startswith("Secret mine has no key hs256.key: ")) == ("SecretIncomplete", True)
