"""Which gateways are said to reach RabbitMQ or Redis no longer, and from when on."""

from dataclasses import replace

import pytest

from pushcluster_contract.ids import Incarnation
from pushcluster_operator.status.sweep_report import CUT_OFF_S, PUSHES_SLOW_AFTER_S
from pushcluster_operator.sweep.reachability import (
    WithoutLease,
    find_left_behind,
    find_without_broker,
    forget_undecided,
    track_without_lease,
)
from pushcluster_operator.sweep.registry import MAX_TIME_DIGITS, parse_without_broker
from pushcluster_operator.sweep.removals import GatewayLease, GatewayPod

NOW_MS = 2_000_000
SLOW_MS = int(PUSHES_SLOW_AFTER_S * 1_000)
A, B, C = (Incarnation(f"pod-{n}", char * 16) for n, char in ((1, "a"), (2, "b"), (3, "c")))
LIVE, EXPIRED = NOW_MS + 1, NOW_MS
WELL = GatewayPod("pod-1", "gateway-1", finished=False, running=True, ready=True)


@pytest.mark.parametrize(
    ("since_ms", "slow"),
    [
        (NOW_MS - SLOW_MS - 1, True),
        (NOW_MS - SLOW_MS, False),
        (NOW_MS + 5, False),
    ],
    ids=["longer than 10 s", "for 10 s", "the clock was put back"],
)
def test_pushes_are_slow_once_a_gateway_has_been_without_rabbitmq_for_long(since_ms: int, *, slow: bool) -> None:
    assert find_without_broker({A: since_ms}, [GatewayLease(A, LIVE)], NOW_MS) == ((A,) if slow else ())


def test_only_gateways_with_a_live_lease_are_without_rabbitmq_and_only_those_that_say_so() -> None:
    leases = [GatewayLease(A, LIVE), GatewayLease(B, EXPIRED), GatewayLease(C, LIVE)]
    assert find_without_broker({A: 1, B: 2}, leases, NOW_MS) == (A,)


def test_what_is_left_behind_has_no_lease_at_all() -> None:
    assert find_left_behind({A: 1, B: 2, C: 3}, [GatewayLease(A, LIVE), GatewayLease(B, EXPIRED)]) == (C,)
    assert find_left_behind({}, [GatewayLease(A, LIVE)]) == ()


def test_what_gateways_say_of_rabbitmq_is_read_and_anything_else_passed_over() -> None:
    longest = b"9" * MAX_TIME_DIGITS
    fields = {
        str(A).encode(): b"17",
        str(B).encode(): longest,
        str(C).encode(): longest + b"9",
        b"pod-4.dddddddddddddddd": b"-5",
        b"pod-5.eeeeeeeeeeeeeeee": b"",
        b"no incarnation": b"18",
        b"\xff": b"19",
    }
    assert parse_without_broker(fields) == {A: 17, B: int(longest)}


def track(
    seen: dict[str, WithoutLease], now_s: float, pod: GatewayPod = WELL, leases: tuple[GatewayLease, ...] = ()
) -> dict[str, WithoutLease]:
    return track_without_lease(seen, [pod], leases, NOW_MS, now_s)


@pytest.mark.parametrize(("after_s", "cut_off"), [(CUT_OFF_S - 0.1, False), (CUT_OFF_S, True)])
@pytest.mark.parametrize("leases", [(), (GatewayLease(A, EXPIRED),), (GatewayLease(B, LIVE),)])
def test_a_ready_pod_without_a_live_lease_for_long_is_cut_off(
    leases: tuple[GatewayLease, ...], after_s: float, *, cut_off: bool
) -> None:
    first = track({}, 100.0, leases=leases)
    assert first == {"pod-1": WithoutLease(100.0, cut_off=False)}
    assert track(first, 100.0 + after_s, leases=leases) == {"pod-1": WithoutLease(100.0, cut_off=cut_off)}


@pytest.mark.parametrize(
    ("pod", "leases"),
    [
        (WELL, (GatewayLease(A, LIVE),)),
        (replace(WELL, ready=False), ()),
        (replace(WELL, running=False), ()),
        (replace(WELL, terminating=True), ()),
    ],
    ids=["has a lease", "not ready", "not running", "told to stop"],
)
def test_one_sweep_in_which_a_pod_is_not_cut_off_starts_its_time_anew(
    pod: GatewayPod, leases: tuple[GatewayLease, ...]
) -> None:
    seen = {"pod-1": WithoutLease(100.0, cut_off=True)}
    assert track(seen, 200.0, pod, leases) == {}


def test_a_pod_that_is_gone_is_not_cut_off() -> None:
    assert track_without_lease({"pod-1": WithoutLease(100.0, cut_off=True)}, [], [], NOW_MS, 200.0) == {}


def test_when_redis_did_not_answer_only_what_was_known_before_stays_known() -> None:
    known, young = WithoutLease(100.0, cut_off=True), WithoutLease(101.0, cut_off=False)
    kept = forget_undecided({"pod-1": known, "pod-2": young})
    assert kept == {"pod-1": known}
    assert track(kept, 102.0) == {"pod-1": known}, "it does not take another minute"
