"""How fast the walk reads the logs."""

import pytest

from pushcluster_gateway.registry.walk_pace import FAST_READS_PER_S, FAST_ROUND_S, plan_round_s


@pytest.mark.parametrize(
    ("sessions", "gateways", "copies_come", "round_s"),
    [
        (20_000, 10, True, 120.0),
        (0, 1, False, FAST_ROUND_S),
        (1, 1, False, FAST_ROUND_S),
        (round(FAST_ROUND_S * FAST_READS_PER_S), 1, False, FAST_ROUND_S),
        (2 * round(FAST_ROUND_S * FAST_READS_PER_S), 1, False, 2 * FAST_ROUND_S),
        (round(FAST_ROUND_S * FAST_READS_PER_S), 3, False, 3 * FAST_ROUND_S),
        (1_000_000, 10, False, 120.0),
    ],
)
def test_without_copies_the_logs_are_read_as_often_as_redis_can_bear(
    sessions: int, gateways: int, copies_come: bool, round_s: float
) -> None:
    assert plan_round_s(120.0, sessions=sessions, gateways=gateways, copies_come=copies_come) == round_s


def test_a_usual_round_that_is_faster_stays() -> None:
    assert plan_round_s(1.0, sessions=1, gateways=1, copies_come=False) == 1.0
