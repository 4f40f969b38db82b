import pytest

from pushcluster_contract import env
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.routing import RoutingMode
from pushcluster_dispatcher.settings import Settings
from pushcluster_runtime.settings import EnvironmentVariables

REQUIRED = {
    env.CLUSTER: "ns.demo",
    env.POD_NAME: "demo-dispatcher-0",
    env.AMQP_URL: "amqp://u:amqp-secret@h/v",
    env.REDIS_URL: "redis://:redis-secret@h",
    env.API_KEY: "api-secret",
}


def test_everything_else_has_a_default() -> None:
    settings = Settings.from_environment(EnvironmentVariables(REQUIRED))
    assert settings.mode is RoutingMode.SESSION
    assert (settings.listen_host, settings.admin_port) == ("0.0.0.0", 9090)
    assert settings.api is not None
    assert settings.api.port == 8080
    assert settings.retention.offline_ttl_ms == 86_400_000
    assert settings.retention.max_entries == 1_000
    assert settings.retention.resume_window_ms == 120_000
    assert settings.retention.idempotency_window_ms == 600_000


@pytest.mark.parametrize(("window_s", "kept_s"), [("0", 180), ("180", 180), ("181", 181)])
def test_what_one_session_has_got_is_kept_for_the_others_however_short_the_resume_window(
    window_s: str, kept_s: int
) -> None:
    settings = Settings.from_environment(EnvironmentVariables({**REQUIRED, env.RESUME_WINDOW_SECONDS: window_s}))
    assert settings.retention.kept_delivered_ms == 1_000 * kept_s


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named(name: str) -> None:
    variables = {key: value for key, value in REQUIRED.items() if key != name}
    with pytest.raises(InvalidInput, match=name):
        Settings.from_environment(EnvironmentVariables(variables))


def test_without_the_api_no_key_is_needed() -> None:
    variables = {**REQUIRED, env.API_ENABLED: "false"}
    del variables[env.API_KEY]
    assert Settings.from_environment(EnvironmentVariables(variables)).api is None


def test_no_secret_is_shown() -> None:
    shown = repr(Settings.from_environment(EnvironmentVariables(REQUIRED)))
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("name", "most"),
    [
        (env.OFFLINE_TTL_SECONDS, 90 * 86_400),
        (env.OFFLINE_MAX_PER_DESTINATION, 100_000),
        (env.RESUME_WINDOW_SECONDS, 86_400),
        (env.IDEMPOTENCY_WINDOW_SECONDS, 86_400),
    ],
)
def test_the_most_is_taken_and_one_more_is_refused(name: str, most: int) -> None:
    Settings.from_environment(EnvironmentVariables({**REQUIRED, name: str(most)}))
    with pytest.raises(InvalidInput, match=f"to {most}, not"):
        Settings.from_environment(EnvironmentVariables({**REQUIRED, name: str(most + 1)}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (env.CLUSTER, "Not A Name"),
        (env.ROUTING_MODE, "Direct"),
        (env.OFFLINE_TTL_SECONDS, "0"),
        (env.IDEMPOTENCY_WINDOW_SECONDS, "0"),
        (env.OFFLINE_MAX_PER_DESTINATION, "many"),
        (env.RESUME_WINDOW_SECONDS, "-1"),
        (env.API_PORT, "70000"),
        (env.API_KEY, "short"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInput):
        Settings.from_environment(EnvironmentVariables({**REQUIRED, name: value}))
