"""When a gateway gets clients from its Service."""

from collections.abc import Mapping

import pytest

from pushcluster_gateway.readiness import Readiness


def judge(
    readiness: Readiness, troubles: Mapping[str, str] | None = None, *, draining: bool = False
) -> tuple[bool, str]:
    return readiness.judge(draining=draining, **{"redis": "", "rabbitmq": "", "keys": "", **(troubles or {})})


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        ({"redis": "refused"}, "no lease: refused"),
        ({"rabbitmq": "no route"}, "no connection to RabbitMQ: no route"),
        ({"keys": "no file"}, "no keys to verify tokens: no file"),
        ({"redis": "refused", "rabbitmq": "no route"}, "no lease: refused; no connection to RabbitMQ: no route"),
    ],
)
def test_at_first_it_needs_everything_so_that_a_broken_version_is_not_rolled_out(
    trouble: dict[str, str], text: str
) -> None:
    readiness = Readiness()
    assert judge(readiness, trouble) == (False, text)
    assert judge(readiness, trouble) == (False, text)
    assert judge(readiness) == (True, "ready")


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        ({"redis": "refused"}, "ready, but clients are told to come back: no lease: refused"),
        (
            {"rabbitmq": "no route"},
            "ready, but clients get what their logs have, later than usual: no connection to RabbitMQ: no route",
        ),
        (
            {"redis": "refused", "rabbitmq": "no route"},
            "ready, but clients are told to come back: no lease: refused; no connection to RabbitMQ: no route",
        ),
    ],
)
def test_once_it_has_worked_it_stays_while_stores_are_away(trouble: dict[str, str], text: str) -> None:
    readiness = Readiness()
    judge(readiness)
    assert judge(readiness, trouble) == (True, text)
    assert judge(readiness) == (True, "ready")


def test_it_leaves_when_it_drains_or_has_no_key_at_all() -> None:
    readiness = Readiness()
    judge(readiness)
    assert judge(readiness, {"keys": "no file"}) == (False, "no keys to verify tokens: no file")
    assert judge(readiness, {"redis": "refused"}, draining=True) == (False, "draining")
