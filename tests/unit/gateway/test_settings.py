"""Where settings enter, and who a client is in mode Trusted."""

import pytest

from pushcluster_contract import env
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway.auth import JwtAuthenticator, Trusted, build_authenticator
from pushcluster_gateway.settings import AuthMode, Settings
from pushcluster_gateway.stomp.errors import Unauthenticated
from pushcluster_gateway.stomp.frames import HeartBeat, Version
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_runtime.settings import Environment

ENVIRONMENT = {
    env.CLUSTER: "default.demo",
    env.POD_NAME: "gateway-0",
    env.POD_UID: "uid",
    env.AMQP_URL: "amqp://u:secret-a@host/v",
    env.REDIS_URL: "redis://:secret-b@host",
    env.JWT_KEY: "secret-c" * 4,
}


def settings(**variables: str) -> Settings:
    return Settings.parse(Environment(ENVIRONMENT | {getattr(env, name): value for name, value in variables.items()}))


class TestSettings:
    def test_what_is_not_set_has_a_default(self) -> None:
        parsed = settings()
        assert parsed.routing_mode is RoutingMode.SESSION
        assert parsed.auth_mode is AuthMode.JWT
        assert (parsed.ws_port, parsed.admin_port, parsed.max_connections) == (8080, 9090, 20_000)
        assert parsed.allowed_origins == ()

    def test_origins_are_parted_by_spaces(self) -> None:
        assert settings(ALLOWED_ORIGINS="https://a  https://b").allowed_origins == ("https://a", "https://b")

    def test_secrets_are_not_shown(self) -> None:
        assert "secret" not in repr(settings())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("JWT_KEY", "x" * 31),
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

    def test_in_mode_trusted_there_is_no_key(self) -> None:
        parsed = settings(AUTH_MODE="Trusted", JWT_KEY="")
        assert isinstance(build_authenticator(parsed, lambda: 0.0), Trusted)
        assert isinstance(build_authenticator(settings(), lambda: 0.0), JwtAuthenticator)


def test_in_mode_trusted_the_user_is_the_login() -> None:
    def connect(login: str) -> Connect:
        return Connect(Version.V1_2, HeartBeat(), login, "")

    assert Trusted().identify(connect("alice"), "").user == "alice"
    for login in ("", "x" * 256, "a\nb"):
        with pytest.raises(Unauthenticated):
            Trusted().identify(connect(login), "")
