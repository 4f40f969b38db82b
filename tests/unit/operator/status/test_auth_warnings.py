"""What `spec.gateway` lets in and its author may not want is told, with the way to mend it."""

import pytest

from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec.gateway import Gateway
from pushcluster_operator.spec.reader import Reader
from pushcluster_operator.status.warnings import build_auth_warnings

BY_URL = {"algorithm": "RS256", "jwks": {"url": "https://issuer.example/jwks.json"}}
BY_SECRET = {"algorithm": "ES256", "jwks": {"secretRef": {"name": "keys", "key": "jwks.json"}}}


def warnings(**gateway: object) -> dict[str, str]:
    """Return each warning's message by its type."""
    return {each.type: each.message for each in build_auth_warnings(Gateway.read(Reader(gateway, "spec.gateway")))}


@pytest.mark.parametrize(
    "auth", [{}, {"secretRef": {"name": "mine"}}, {**BY_URL, "audiences": ["push"]}, {**BY_SECRET, "audiences": ["a"]}]
)
def test_tokens_that_are_for_this_service_alone_are_no_reason_to_warn(auth: Manifest) -> None:
    assert warnings(auth=auth) == {}


@pytest.mark.parametrize("auth", [BY_URL, BY_SECRET, {**BY_URL, "issuer": "https://issuer.example"}])
def test_the_author_is_warned_of_an_issuer_that_signs_tokens_for_other_services_too(auth: Manifest) -> None:
    found = warnings(auth=auth)
    assert list(found) == ["AudiencesUnchecked"]
    assert "Set gateway.auth.audiences" in found["AudiencesUnchecked"]


def test_the_author_is_warned_of_trusted_clients_and_of_unchecked_origins() -> None:
    found = warnings(auth={"mode": "Trusted"})
    assert list(found) == ["AuthTrusted", "OriginsUnchecked"]
    assert "Set the mode to JWT" in found["AuthTrusted"]
    assert "Set allowedOrigins" in found["OriginsUnchecked"]
    assert list(warnings(auth={"mode": "Trusted"}, allowedOrigins=["http://localhost:8080"])) == ["AuthTrusted"]
