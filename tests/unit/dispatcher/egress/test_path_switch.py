"""When the copies for a gateway take its own queue instead of its subscriptions' queues, and when they go back."""

from functools import partial

import pytest

from pushcluster_dispatcher.egress import path_switch
from pushcluster_dispatcher.egress.path_switch import (
    JOIN_ABOVE,
    MAX_GATEWAYS,
    PART_AT,
    STAY_S,
    WINDOW_S,
    GatewayPath,
    PathSwitch,
)

BEGIN_S = 1_000.0
NEXT_S = 1.01 * WINDOW_S
"""From the beginning of a window until the next one begins for sure."""


def count(path: GatewayPath, copies: int, now_s: float) -> None:
    for _ in range(copies):
        path.count(now_s)


def joined_path(now_s: float = BEGIN_S) -> GatewayPath:
    path = GatewayPath()
    count(path, JOIN_ABOVE + 1, now_s)
    assert path.is_joined
    return path


def test_a_single_copy_goes_to_its_own_queue() -> None:
    assert not GatewayPath().is_joined
    assert not PathSwitch().count("gateway", BEGIN_S).is_joined


def test_one_copy_more_than_allowed_in_a_window_takes_the_gateways_queue() -> None:
    path = GatewayPath()
    count(path, JOIN_ABOVE, BEGIN_S)
    assert not path.is_joined
    path.count(BEGIN_S + 0.99 * WINDOW_S)
    assert path.is_joined


def test_each_window_begins_with_its_first_copy_and_counts_anew() -> None:
    path = GatewayPath()
    for window in range(3):
        begin_s = BEGIN_S + window * 1.5 * WINDOW_S
        count(path, 1, begin_s)
        count(path, JOIN_ABOVE - 1, begin_s + 0.99 * WINDOW_S)
    assert not path.is_joined
    path.count(begin_s + 1.01 * WINDOW_S)
    assert not path.is_joined


def test_gateways_are_counted_one_by_one() -> None:
    switch = PathSwitch()
    for _ in range(JOIN_ABOVE):
        busy, quiet = switch.count("busy", BEGIN_S), switch.count("quiet", BEGIN_S)
    assert switch.count("busy", BEGIN_S).is_joined
    assert (busy.is_joined, quiet.is_joined) == (True, False)


def test_the_path_goes_back_after_it_was_calm_for_long_enough_and_not_before() -> None:
    path = joined_path()
    path.count(BEGIN_S + 0.99 * STAY_S)
    assert path.is_joined
    path.count(BEGIN_S + STAY_S)
    assert not path.is_joined


@pytest.mark.parametrize("more", [0, 1])
def test_as_many_copies_as_a_calm_window_has_let_it_go_back_and_one_more_does_not(more: int) -> None:
    path = joined_path()
    for window in range(1, round(STAY_S / WINDOW_S)):
        count(path, PART_AT + more, BEGIN_S + window * NEXT_S)
        assert path.is_joined
    path.count(BEGIN_S + STAY_S + WINDOW_S)
    assert path.is_joined is bool(more)


def test_a_single_busy_window_begins_the_calm_anew() -> None:
    path = joined_path()
    count(path, PART_AT + 1, BEGIN_S + 0.5 * STAY_S)
    path.count(BEGIN_S + 1.4 * STAY_S)
    assert path.is_joined
    path.count(BEGIN_S + 1.5 * STAY_S)
    assert not path.is_joined


def test_between_the_two_bounds_the_path_stays_as_it_is() -> None:
    between = (PART_AT + JOIN_ABOVE) // 2
    apart, joined = GatewayPath(), joined_path()
    for window in range(1, 100):
        for path in (apart, joined):
            count(path, between, BEGIN_S + window * NEXT_S)
    assert (apart.is_joined, joined.is_joined) == (False, True)


def test_a_gateway_without_copies_for_long_begins_at_own_queues_again() -> None:
    path = joined_path()
    path.count(BEGIN_S + 3_600)
    assert not path.is_joined


def test_copies_on_the_gateways_queue_wait_for_those_in_flight_to_own_queues() -> None:
    path = GatewayPath()
    path.own.begin()
    path.own.begin()
    waits = []
    for happens in (
        partial(count, path, JOIN_ABOVE, BEGIN_S),
        partial(count, path, 1, BEGIN_S),
        path.own.end,
        path.own.end,
    ):
        happens()
        waits.append(path.must_wait)
    assert waits == [False, True, True, False]


def test_the_path_does_not_go_back_while_copies_are_in_flight_to_the_gateways_queue() -> None:
    path = joined_path()
    path.joined.begin()
    path.count(BEGIN_S + 2 * STAY_S)
    assert (path.is_joined, path.must_wait) == (True, False)
    path.joined.end()
    path.count(BEGIN_S + 2 * STAY_S)
    assert not path.is_joined


def test_one_gateway_more_than_is_remembered_forgets_the_one_that_was_quiet_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(path_switch, "MAX_GATEWAYS", 2)
    switch = PathSwitch()
    first, second = switch.count("first", BEGIN_S), switch.count("second", BEGIN_S)
    assert switch.count("first", BEGIN_S + WINDOW_S) is first
    switch.count("third", BEGIN_S + WINDOW_S)
    assert switch.count("first", BEGIN_S + WINDOW_S) is first
    assert switch.count("second", BEGIN_S + WINDOW_S) is not second


def test_as_many_gateways_as_are_remembered_forget_none() -> None:
    switch = PathSwitch()
    paths = [switch.count(f"gateway {n}", BEGIN_S) for n in range(MAX_GATEWAYS)]
    assert all(switch.count(f"gateway {n}", BEGIN_S) is path for n, path in enumerate(paths))
    switch.count("one more", BEGIN_S)
    assert switch.count("gateway 1", BEGIN_S) is paths[1]
    assert switch.count("gateway 0", BEGIN_S) is not paths[0]
