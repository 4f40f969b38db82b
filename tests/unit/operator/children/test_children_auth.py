"""What gateways are told of tokens and their keys."""

import base64
import json
from typing import Any

import pytest

from local_run.pods import Children, PodIdentity, read_environment
from pushcluster_contract import env
from pushcluster_contract.limits import SESSIONS_PER_USER
from pushcluster_contract.tokens import KEYS_DIRECTORY
from pushcluster_gateway.settings import Settings
from pushcluster_operator.children import build_children
from pushcluster_operator.kube.credentials import Credentials
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.kube.names import Names
from pushcluster_runtime.settings import EnvironmentVariables
from tests.unit.operator.objects import (
    IMAGES,
    children,
    cluster,
    container,
    credentials,
    entropy,
    environment,
    pod_spec,
)

ALL = children()


def auth_sources(chosen: dict[str, Manifest]) -> list[Manifest]:
    """Return the Secrets that are mounted where a gateway looks for keys."""
    gateway = chosen["Deployment/demo-gateway"]
    (mount,) = container(gateway)["volumeMounts"]
    (volume,) = pod_spec(gateway)["volumes"]
    assert mount == {"name": volume["name"], "mountPath": KEYS_DIRECTORY, "readOnly": True}
    assert volume["projected"]["defaultMode"] == 0o440, "readable for the pod's group alone"
    return [source["secret"] for source in volume["projected"]["sources"]]


def test_the_authors_key_takes_the_place_of_the_generated_one() -> None:
    chosen = children({"gateway": {"auth": {"secretRef": {"name": "mine"}}}})
    assert "Secret/demo-jwt" not in chosen
    assert auth_sources(chosen) == [
        {
            "name": "mine",
            "optional": True,
            "items": [
                {"key": "hs256.key", "path": "hs256.key"},
                {"key": "hs256.second.key", "path": "hs256.second.key"},
            ],
        }
    ]


def test_no_key_of_tokens_stands_in_an_environment_or_rolls_a_pod() -> None:
    (generated,) = auth_sources(ALL)
    assert generated["name"] == "demo-jwt"
    assert credentials().jwt_key not in json.dumps(ALL["Deployment/demo-gateway"])
    other = {"demo-jwt": {"data": {"hs256.key": base64.b64encode(b"k" * 32).decode()}}}
    rotated = Credentials.recover(Names.of(cluster().identity), other, entropy)
    built = {
        child["kind"] + "/" + child["metadata"]["name"]: child for child in build_children(cluster(), rotated, IMAGES)
    }
    assert built["Secret/demo-jwt"] != ALL["Secret/demo-jwt"]
    assert built["Deployment/demo-gateway"] == ALL["Deployment/demo-gateway"]


def test_an_issuers_address_reaches_the_gateways_with_its_authorities() -> None:
    jwks = {
        "url": "https://issuer.example/keys",
        "caSecretRef": {"name": "ca", "key": "bundle.pem"},
        "refreshSeconds": 60,
    }
    auth = {"algorithm": "RS256", "jwks": jwks, "issuer": "https://issuer.example", "audiences": ["push", "web"]}
    chosen = children({"gateway": {"auth": auth}})
    assert "Secret/demo-jwt" not in chosen
    values = environment(chosen["Deployment/demo-gateway"])
    assert values[env.JWT_ALGORITHM] == "RS256"
    assert values[env.JWKS_URL] == "https://issuer.example/keys"
    assert values[env.JWKS_REFRESH_SECONDS] == "60"
    assert values[env.JWKS_ALLOW_HTTP] == "false"
    assert values[env.JWKS_OWN_CA] == "true"
    assert values[env.JWT_ISSUER] == "https://issuer.example"
    assert values[env.JWT_AUDIENCES] == "push web"
    assert values[env.JWT_REQUIRE_EXPIRY] == "true"
    endless = children({"gateway": {"auth": {"requireExpiry": False}}})
    assert environment(endless["Deployment/demo-gateway"])[env.JWT_REQUIRE_EXPIRY] == "false"
    assert auth_sources(chosen) == [
        {"name": "ca", "optional": True, "items": [{"key": "bundle.pem", "path": "ca.crt"}]}
    ]


@pytest.mark.parametrize("text", ["$(PUSHCLUSTER_REDIS_URL)", "$$(PUSHCLUSTER_REDIS_URL)", "a$b$"])
def test_what_the_author_writes_refers_to_no_other_variable(text: str) -> None:
    jwks = {"url": f"https://issuer.example/{text}"}
    auth = {"algorithm": "RS256", "jwks": jwks, "issuer": text, "audiences": [text]}
    gateway = children({"gateway": {"auth": auth}})["Deployment/demo-gateway"]
    values = environment(gateway)
    written = text.replace("$", "$$")
    assert values[env.JWKS_URL] == f"https://issuer.example/{written}"
    assert values[env.JWT_ISSUER] == values[env.JWT_AUDIENCES] == written
    plain = {"env": [entry for entry in container(gateway)["env"] if "value" in entry]}
    read = read_environment(plain, PodIdentity("demo-gateway-0", "uid", "team"), Children(()))
    assert read[env.JWT_ISSUER] == text


def test_public_keys_in_a_secret_are_mounted() -> None:
    auth = {"algorithm": "ES256", "jwks": {"secretRef": {"name": "issuer", "key": "set"}}}
    chosen = children({"gateway": {"auth": auth}})
    assert auth_sources(chosen) == [
        {"name": "issuer", "optional": True, "items": [{"key": "set", "path": "jwks.json"}]}
    ]
    assert env.JWKS_URL not in environment(chosen["Deployment/demo-gateway"])


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"secretRef": {"name": "mine"}},
        {"mode": "Trusted"},
        {"algorithm": "RS256", "jwks": {"url": "https://issuer.example/keys"}},
        {"algorithm": "RS256", "jwks": {"url": "http://localhost:8080/keys"}},
        {"algorithm": "RS256", "jwks": {"url": "http://issuer.example/keys", "allowHttp": True}},
        {"algorithm": "ES256", "jwks": {"secretRef": {"name": "issuer", "key": "set"}}},
        {"algorithm": "ES256", "jwks": {"url": "https://i/k", "caSecretRef": {"name": "ca", "key": "ca.crt"}}},
    ],
)
def test_gateways_understand_what_the_operator_tells_them(auth: dict[str, Any]) -> None:
    gateway = children({"gateway": {"auth": auth, "allowedOrigins": ["https://A.example:443"]}})[
        "Deployment/demo-gateway"
    ]
    values = {name: value if isinstance(value, str) else "x" for name, value in environment(gateway).items()}
    settings = Settings.parse(EnvironmentVariables(values))
    assert settings.auth.mode == auth.get("mode", "JWT")
    assert settings.auth.algorithm == auth.get("algorithm", "HS256")
    assert settings.auth.jwks_url == auth.get("jwks", {}).get("url", "")
    assert str(settings.auth.keys_directory) == KEYS_DIRECTORY
    assert settings.max_sessions_per_user == SESSIONS_PER_USER
    assert settings.allowed_origins == ("https://a.example",)


def test_trusted_gateways_get_no_key() -> None:
    chosen = children({"gateway": {"auth": {"mode": "Trusted"}}})
    assert "Secret/demo-jwt" not in chosen
    assert "volumes" not in pod_spec(chosen["Deployment/demo-gateway"])
