"""What the sweeps make the status say, while Redis or RabbitMQ is away or out of the reach of some gateways."""

from dataclasses import replace

import pytest

from pushcluster_operator.status.conditions import ObservedState, build_conditions
from pushcluster_operator.status.sweep_report import (
    SWEEP_FAILING_S,
    SweepReport,
    find_sweep_troubles,
)
from pushcluster_operator.status.workloads import Workload

READY = Workload(1, 1, 1, rolled_out=True, troubles=())
AWAY = replace(READY, ready=0)
ROLLING = replace(READY, rolled_out=False)
SILENT = SweepReport(failing_s=SWEEP_FAILING_S, redis_answers=False, error="Redis: no route")


def say(report: SweepReport, *, redis: Workload = READY, rabbitmq: Workload = READY) -> dict[str, str]:
    """Return the messages by reason."""
    return {each.reason: each.message for each in find_sweep_troubles(report, redis, rabbitmq)}


def test_sweeps_that_find_nothing_say_nothing() -> None:
    assert say(SweepReport()) == {}
    assert say(SweepReport(error="an old one")) == {}
    assert say(SweepReport(), redis=AWAY, rabbitmq=AWAY) == {}, "the stores' own conditions say that"


def test_before_the_first_sweep_nothing_is_taken_for_wrong() -> None:
    report = SweepReport()
    assert (report.failing_s, report.redis_answers, report.error) == (0.0, True, "")


@pytest.mark.parametrize("redis", [READY, AWAY])
def test_a_failure_is_told_once_it_has_lasted(redis: Workload) -> None:
    assert say(replace(SILENT, failing_s=SWEEP_FAILING_S - 0.1), redis=redis) == {}
    assert say(SILENT, redis=redis) != {}


def test_while_redis_is_away_the_status_says_what_clients_and_publishers_see() -> None:
    message = say(SILENT, redis=AWAY)["RedisAway"]
    for fact in (
        "Redis has not answered for 30 s",
        "Gateways stay ready",
        "clients cannot connect or subscribe: an ERROR and close code 1013 tell them when to come again",
        "New messages wait in the ingress queues",
        "Nothing is lost",
        "RedisReady",
    ):
        assert fact in message
    assert "RabbitMQ" not in message


def test_while_both_stores_are_away_it_does_not_say_that_messages_wait() -> None:
    message = say(SILENT, redis=AWAY, rabbitmq=AWAY)["RedisAway"]
    assert "RabbitMQ is not ready either, so messages cannot be published" in message
    assert "ingress" not in message


@pytest.mark.parametrize("redis", [READY, ROLLING])
def test_a_redis_that_only_the_operator_cannot_reach_does_not_promise_that_clients_are_refused(redis: Workload) -> None:
    message = say(SILENT, redis=redis)["SweepFailing"]
    assert "does not answer the operator, although its pod is ready: Redis: no route. Stale sessions" in message
    assert "If Redis does not answer gateways either, clients cannot connect (close code 1013" in message


@pytest.mark.parametrize("redis", [READY, AWAY])
def test_an_api_server_that_does_not_answer_is_not_taken_for_an_absent_redis(redis: Workload) -> None:
    message = say(replace(SILENT, redis_answers=True, error="the API server is down"), redis=redis)["SweepFailing"]
    assert message == "stale sessions cannot be removed now: the API server is down. The operator keeps trying"


def test_what_was_found_before_is_not_told_while_sweeps_fail() -> None:
    found = replace(SILENT, without_broker=("a",), cut_off=("b",))
    assert list(say(found, redis=AWAY)) == ["RedisAway"]
    assert list(say(replace(found, failing_s=SWEEP_FAILING_S - 0.1))) == ["GatewayCutOff", "PushesSlow"]


def test_slow_pushes_say_what_clients_see_and_where_to_look() -> None:
    report = SweepReport(without_broker=("demo-gateway-a",))
    ready, away = (say(report, rabbitmq=rabbitmq)["PushesSlow"] for rabbitmq in (READY, AWAY))
    for message in (ready, away):
        assert message.startswith("gateway pod demo-gateway-a has had no connection to RabbitMQ for more than 10 s. ")
        assert "Clients connect, and get what is in their logs within seconds instead of at once." in message
    assert "network policy, a changed password, or a failure of DNS between these pods and RabbitMQ" in ready
    assert "messages cannot be published. The condition RabbitMQReady says how far it is" in away


def test_a_gateway_that_is_cut_off_says_what_to_do_with_it() -> None:
    message = say(SweepReport(cut_off=("demo-gateway-a",)))["GatewayCutOff"]
    assert message.startswith("gateway pod demo-gateway-a is ready, but has not reached Redis for 60 s, although Redis")
    assert "Clients there get nothing, and new ones are told when to come again (close code 1013)" in message
    assert message.endswith("`kubectl delete pod demo-gateway-a`")


@pytest.mark.parametrize(
    ("pods", "named", "deleted"),
    [
        ("ab", "gateway pods a and b are ready, but have not", "a b"),
        ("abc", "gateway pods a, b and c are ready, but have not", "a b c"),
        ("abcd", "gateway pods a, b, c and 1 more are ready, but have not", "a b c"),
        ("abcde", "gateway pods a, b, c and 2 more are ready, but have not", "a b c"),
    ],
)
def test_three_pods_are_named_and_the_others_counted(pods: str, named: str, deleted: str) -> None:
    message = say(SweepReport(cut_off=tuple(pods)))["GatewayCutOff"]
    assert message.startswith(named)
    assert message.endswith(f"`kubectl delete pod {deleted}`")
    assert say(SweepReport(without_broker=tuple(pods)))["PushesSlow"].startswith(
        named[: named.index(" are")] + " have had"
    )


def test_degraded_says_it_while_the_gateways_are_ready() -> None:
    four = Workload(4, 4, 4, rolled_out=True, troubles=())
    troubles = find_sweep_troubles(SILENT, AWAY, READY)
    observed = ObservedState(READY, AWAY, four, READY, sweep_troubles=troubles)
    found = {each.type: each for each in build_conditions(observed)}
    assert (found["Degraded"].status, found["Degraded"].reason) == ("True", "RedisAway")
    assert (found["Ready"].status, found["Ready"].message) == ("False", troubles[0].message)
    assert found["GatewaysReady"].message == "gateways: 4 of 4 ready"
    assert found["RedisReady"].message == "Redis: 0 of 1 ready; starting"
    assert found["Progressing"].message == "Redis: 0 of 1 ready; starting"
