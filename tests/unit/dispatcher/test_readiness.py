import pytest

from pushcluster_dispatcher.readiness import Readiness


@pytest.mark.parametrize(("path", "api"), [("Redis: refused", ""), ("", "RabbitMQ: refused"), ("Redis: refused", None)])
def test_it_is_not_ready_before_everything_has_worked_once(path: str, api: str | None) -> None:
    assert Readiness().judge(dispatch=path, api=api, refusal="", stopping=False) == (False, path or api)


def test_an_api_that_can_publish_stays_ready_while_messages_wait() -> None:
    readiness = Readiness()
    assert readiness.judge(dispatch="", refusal="", api="", stopping=False) == (True, "ready")
    ready, reason = readiness.judge(dispatch="Redis: refused", refusal="", api="", stopping=False)
    assert ready
    assert "wait in ingress: Redis: refused" in reason


@pytest.mark.parametrize(("path", "api"), [("", "RabbitMQ: refused"), ("Redis: refused", "RabbitMQ: refused")])
def test_an_api_that_cannot_publish_is_not_ready(path: str, api: str) -> None:
    readiness = Readiness()
    readiness.judge(dispatch="", refusal="", api="", stopping=False)
    assert readiness.judge(dispatch=path, api=api, refusal="", stopping=False) == (False, path or api)


def test_without_an_api_readiness_follows_the_way_of_messages() -> None:
    readiness = Readiness()
    assert readiness.judge(dispatch="", api=None, refusal="", stopping=False) == (True, "ready")
    assert readiness.judge(dispatch="Redis: refused", api=None, refusal="", stopping=False) == (False, "Redis: refused")


def test_a_stopping_dispatcher_is_not_ready() -> None:
    assert Readiness().judge(dispatch="", refusal="", api="", stopping=True) == (False, "stopping")


def test_a_partition_that_is_refused_for_long_keeps_a_new_one_unready() -> None:
    judged = Readiness().judge(dispatch="1 of 16", refusal="partition 3: 404", api="", stopping=False)
    assert judged == (False, "partition 3: 404")


def test_a_partition_that_is_refused_later_does_not_take_the_api_away_and_is_told() -> None:
    readiness = Readiness()
    assert readiness.judge(dispatch="", refusal="", api="", stopping=False)[0]
    ready, reason = readiness.judge(dispatch="1 of 16", refusal="partition 3: 404", api="", stopping=False)
    assert ready
    assert reason.endswith("wait in ingress: partition 3: 404")
