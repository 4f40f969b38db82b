"""Where settings enter, and who a client is in mode Trusted."""

import dataclasses
from pathlib import Path

import pytest

from pushcluster_contract import env
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import (
    MAX_OUTBOXES_BYTES,
    MAX_SESSIONS_PER_USER,
    MAX_SUBSCRIPTION_QUEUES,
    MIN_OUTBOXES_BYTES,
)
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway.auth.authenticator import TrustedAuthenticator
from pushcluster_gateway.auth.settings import MAX_REFRESH_S, AuthMode
from pushcluster_gateway.settings import Settings
from pushcluster_gateway.stomp.errors import Unauthenticated
from pushcluster_gateway.stomp.frames import HeartBeat, Version
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_runtime.settings import EnvironmentVariables

ENVIRONMENT = {
    env.CLUSTER: "default.demo",
    env.POD_NAME: "gateway-0",
    env.POD_UID: "uid",
    env.AMQP_URL: "amqp://u:secret-a@host/v",
    env.REDIS_URL: "redis://:secret-b@host",
}


def settings(**variables: str) -> Settings:
    return Settings.parse(
        EnvironmentVariables(ENVIRONMENT | {getattr(env, name): value for name, value in variables.items()})
    )


REQUIRED = {
    "cluster": "default.demo",
    "pod_name": "gateway-0",
    "pod_uid": "uid",
    "amqp_url": "amqp://u:secret-a@host/v",
    "redis_url": "redis://:secret-b@host",
}


class TestSettings:
    def test_what_is_not_set_has_a_default(self) -> None:
        assert dataclasses.asdict(settings()) == REQUIRED | {
            "routing_mode": RoutingMode.SESSION,
            "auth": {
                "mode": AuthMode.JWT,
                "algorithm": Algorithm.HS256,
                "keys_directory": Path("/etc/pushcluster/auth"),
                "jwks_url": "",
                "jwks_refresh_s": 300,
                "jwks_own_ca": False,
                "issuer": "",
                "audiences": frozenset(),
                "user_claim": "sub",
                "require_expiry": True,
            },
            "allowed_origins": (),
            "listen_host": "0.0.0.0",
            "ws_port": 8080,
            "admin_port": 9090,
            "max_connections": 20_000,
            "max_sessions_per_user": 64,
            "handshakes_per_second": 0,
            "outboxes_bytes": 134_217_728,
            "subscription_queues": 7_000,
            "drain_seconds": 60,
            "resume_window_seconds": 120,
        }

    def test_every_variable_reaches_its_own_field(self) -> None:
        """No value stands twice, so that none can have come from another variable."""
        parsed = settings(
            ROUTING_MODE="Gateway",
            ALLOWED_ORIGINS="https://a",
            LISTEN_HOST="127.0.0.1",
            WS_PORT="1001",
            ADMIN_PORT="1002",
            MAX_CONNECTIONS="1003",
            MAX_SESSIONS_PER_USER="104",
            HANDSHAKES_PER_SECOND="1005",
            OUTBOXES_BYTES="16777217",
            SUBSCRIPTION_QUEUES="1006",
            DRAIN_SECONDS="1007",
            RESUME_WINDOW_SECONDS="1008",
            AUTH_MODE="Trusted",
            JWT_ALGORITHM="ES256",
            AUTH_KEYS_DIRECTORY="/keys",
            JWKS_URL="https://issuer/keys",
            JWKS_REFRESH_SECONDS="1009",
            JWKS_OWN_CA="true",
            JWT_ISSUER="issuer",
            JWT_AUDIENCES="audience",
            JWT_USER_CLAIM="user",
            JWT_REQUIRE_EXPIRY="false",
        )
        assert dataclasses.asdict(parsed) == REQUIRED | {
            "routing_mode": RoutingMode.GATEWAY,
            "auth": {
                "mode": AuthMode.TRUSTED,
                "algorithm": Algorithm.ES256,
                "keys_directory": Path("/keys"),
                "jwks_url": "https://issuer/keys",
                "jwks_refresh_s": 1009,
                "jwks_own_ca": True,
                "issuer": "issuer",
                "audiences": frozenset({"audience"}),
                "user_claim": "user",
                "require_expiry": False,
            },
            "allowed_origins": ("https://a",),
            "listen_host": "127.0.0.1",
            "ws_port": 1001,
            "admin_port": 1002,
            "max_connections": 1003,
            "max_sessions_per_user": 104,
            "handshakes_per_second": 1005,
            "outboxes_bytes": 16_777_217,
            "subscription_queues": 1006,
            "drain_seconds": 1007,
            "resume_window_seconds": 1008,
        }

    @pytest.mark.parametrize(
        ("name", "least"),
        [
            ("MAX_CONNECTIONS", 1),
            ("MAX_SESSIONS_PER_USER", 1),
            ("HANDSHAKES_PER_SECOND", 0),
            ("OUTBOXES_BYTES", MIN_OUTBOXES_BYTES),
            ("SUBSCRIPTION_QUEUES", 0),
            ("DRAIN_SECONDS", 0),
            ("RESUME_WINDOW_SECONDS", 0),
            ("JWKS_REFRESH_SECONDS", 1),
        ],
    )
    def test_the_least_is_taken_and_one_less_is_refused(self, name: str, least: int) -> None:
        settings(**{name: str(least)})
        with pytest.raises(InvalidInput, match=f"from {least} to"):
            settings(**{name: str(least - 1)})

    @pytest.mark.parametrize("name", ["CLUSTER", "POD_NAME", "POD_UID", "AMQP_URL", "REDIS_URL"])
    def test_what_has_no_default_is_required(self, name: str) -> None:
        with pytest.raises(InvalidInput, match=f"PUSHCLUSTER_{name}"):
            settings(**{name: ""})

    def test_an_origin_that_is_none_is_told_with_its_variable(self) -> None:
        with pytest.raises(InvalidInput, match="PUSHCLUSTER_ALLOWED_ORIGINS: 'null'"):
            settings(ALLOWED_ORIGINS="https://a null")

    def test_origins_are_parted_by_spaces_and_as_browsers_send_them(self) -> None:
        assert settings(ALLOWED_ORIGINS="https://A:443  https://b").allowed_origins == ("https://a", "https://b")

    def test_audiences_are_parted_by_spaces(self) -> None:
        assert settings(JWT_AUDIENCES=" a  b ").auth.audiences == {"a", "b"}

    def test_tokens_must_end_unless_the_author_says_otherwise(self) -> None:
        assert settings().auth.require_expiry
        assert not settings(JWT_REQUIRE_EXPIRY="false").auth.require_expiry

    @pytest.mark.parametrize(
        "url", ["https://issuer.example/keys", "http://127.0.0.1:1/k", "http://[::1]:1/k", "http://localhost/k"]
    )
    def test_keys_come_over_https_or_from_this_machine(self, url: str) -> None:
        assert settings(JWT_ALGORITHM="RS256", JWKS_URL=url).auth.jwks_url == url

    @pytest.mark.parametrize(
        "url",
        ["http://issuer.example/keys", "http://localhost.evil/k", "http://127.0.0.1.evil/k", "ftp://a/k", "https://",
         "https://[", "https://a:99999/k", "issuer.example", "file:///etc/passwd"],
    )  # fmt: skip
    def test_keys_come_from_nowhere_else(self, url: str) -> None:
        with pytest.raises(InvalidInput, match="PUSHCLUSTER_JWKS_URL must be an https:// address"):
            settings(JWT_ALGORITHM="RS256", JWKS_URL=url)

    def test_http_is_taken_when_it_is_asked_for(self) -> None:
        url = "http://issuer.mesh/keys"
        assert settings(JWT_ALGORITHM="RS256", JWKS_URL=url, JWKS_ALLOW_HTTP="true").auth.jwks_url == url

    @pytest.mark.parametrize(
        ("name", "most"),
        [
            ("MAX_CONNECTIONS", 1_000_000),
            ("MAX_SESSIONS_PER_USER", MAX_SESSIONS_PER_USER),
            ("HANDSHAKES_PER_SECOND", 100_000),
            ("OUTBOXES_BYTES", MAX_OUTBOXES_BYTES),
            ("SUBSCRIPTION_QUEUES", MAX_SUBSCRIPTION_QUEUES),
            ("DRAIN_SECONDS", 3_600),
            ("RESUME_WINDOW_SECONDS", 86_400),
            ("JWKS_REFRESH_SECONDS", MAX_REFRESH_S),
        ],
    )
    def test_the_most_is_taken_and_one_more_is_refused(self, name: str, most: int) -> None:
        settings(**{name: str(most)})
        with pytest.raises(InvalidInput, match=f"to {most}, not"):
            settings(**{name: str(most + 1)})

    def test_secrets_are_not_shown(self) -> None:
        assert "secret" not in repr(settings())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("JWT_ALGORITHM", "none"),
            ("JWT_ALGORITHM", "HS512"),
            ("JWKS_REFRESH_SECONDS", "0"),
            ("JWKS_OWN_CA", "yes"),
            ("MAX_SESSIONS_PER_USER", "0"),
            ("HANDSHAKES_PER_SECOND", "-1"),
            ("ALLOWED_ORIGINS", "https://a null"),
            ("CLUSTER", "No Cluster"),
            ("ROUTING_MODE", "Anycast"),
            ("AUTH_MODE", "None"),
            ("MAX_CONNECTIONS", "0"),
            ("WS_PORT", "70000"),
            ("DRAIN_SECONDS", "-1"),
            ("RESUME_WINDOW_SECONDS", "-1"),
            ("POD_UID", ""),
        ],
    )
    def test_a_wrong_value_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(InvalidInput):
            settings(**{name: value})


def test_in_mode_trusted_the_user_is_the_login() -> None:
    def connect(login: str) -> Connect:
        return Connect(Version.V1_2, HeartBeat(), login, "")

    assert TrustedAuthenticator().identify(connect("alice"), "").user == "alice"
    for login in ("", "x" * 256, "a\nb"):
        with pytest.raises(Unauthenticated):
            TrustedAuthenticator().identify(connect(login), "")
