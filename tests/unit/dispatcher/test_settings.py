import pytest

from pushcluster_contract import env
from pushcluster_contract.api_keys import ApiKeys
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.routing import RoutingMode
from pushcluster_dispatcher.settings import ApiSettings, Retention, Settings
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


def test_each_variable_reaches_the_setting_of_its_name() -> None:
    variables = {
        env.CLUSTER: "ns.demo",
        env.POD_NAME: "demo-dispatcher-7",
        env.AMQP_URL: "amqp://u:p@h/v",
        env.REDIS_URL: "redis://:p@h",
        env.ROUTING_MODE: "Gateway",
        env.LISTEN_HOST: "127.0.0.1",
        env.ADMIN_PORT: "1001",
        env.API_PORT: "1002",
        env.API_KEY: "api-secret read",
        env.OFFLINE_TTL_SECONDS: "1003",
        env.OFFLINE_MAX_PER_DESTINATION: "1004",
        env.RESUME_WINDOW_SECONDS: "1005",
        env.IDEMPOTENCY_WINDOW_SECONDS: "1006",
    }
    assert Settings.from_environment(EnvironmentVariables(variables)) == Settings(
        cluster="ns.demo",
        pod_name="demo-dispatcher-7",
        mode=RoutingMode.GATEWAY,
        retention=Retention(
            offline_ttl_ms=1_003_000, max_entries=1_004, resume_window_ms=1_005_000, idempotency_window_ms=1_006_000
        ),
        listen_host="127.0.0.1",
        admin_port=1_001,
        api=ApiSettings(1_002, ApiKeys.parse("api-secret read", name="")),
        amqp_url="amqp://u:p@h/v",
        redis_url="redis://:p@h",
    )


def test_sequence_numbers_outlive_the_log_by_a_week() -> None:
    assert Retention(1, 2, 3, 4).meta_ttl_ms == 1 + 7 * 86_400_000


@pytest.mark.parametrize(
    ("name", "least"),
    [
        (env.OFFLINE_TTL_SECONDS, 1),
        (env.OFFLINE_MAX_PER_DESTINATION, 1),
        (env.RESUME_WINDOW_SECONDS, 0),
        (env.IDEMPOTENCY_WINDOW_SECONDS, 1),
    ],
)
def test_the_least_is_taken_and_one_less_is_refused(name: str, least: int) -> None:
    Settings.from_environment(EnvironmentVariables({**REQUIRED, name: str(least)}))
    with pytest.raises(InvalidInput, match=f"from {least} to"):
        Settings.from_environment(EnvironmentVariables({**REQUIRED, name: str(least - 1)}))


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
