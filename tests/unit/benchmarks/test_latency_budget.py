"""The arithmetic of the latency budget: medians from buckets, and what is compared with what."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.arrivals import Arrivals, watch
from benchmarks.budget_report import (
    CONSUMED,
    HOPS,
    Buckets,
    Budget,
    Figure,
    Load,
    build_floor,
    build_hops,
    build_section,
)
from benchmarks.peer_report import Parts
from benchmarks.stomp_clients import encode_stamp
from pushcluster_dispatcher.ingress.partition import PartitionSession
from pushcluster_runtime.hops import DISPATCHER_HOPS, Hop, HopTimes

PARTS = Parts(quorum_ms=2.0, append_ms=1.0, transient_ms=1.0)
NAME = "pushcluster_dispatcher_hop_seconds"


def budget(name: str, p50_ms: float = 5.0) -> Budget:
    hops = {hop: Figure(p50_ms=n + 0.5, mean_ms=n + 1.0) for n, hop in enumerate(HOPS)}
    return Budget(name, hops, Figure(p50_ms=20.0, mean_ms=25.0), p50_ms)


def exported(*seconds: float) -> str:
    registry = CollectorRegistry()
    times = HopTimes("dispatcher", DISPATCHER_HOPS, registry=registry)
    for each in seconds:
        times.observe(Hop.APPENDED, each)
    return generate_latest(registry).decode()


def test_what_a_program_exports_gives_the_exact_mean_and_a_median_between_two_bounds() -> None:
    found = Buckets.parse(exported(0.0002, 0.0011, 0.0012, 0.0013, 0.09), NAME)
    assert set(found) == set(DISPATCHER_HOPS)
    figure = found[Hop.APPENDED].figure()
    assert figure.mean_ms == pytest.approx((0.2 + 1.1 + 1.2 + 1.3 + 90) / 5)
    assert figure.p50_ms == pytest.approx(1 + 0.5 * (2.5 - 1) / 3)


def test_only_what_came_between_two_looks_counts() -> None:
    before = Buckets.parse(exported(0.5, 0.5), NAME)[Hop.APPENDED]
    after = Buckets.parse(exported(0.5, 0.5, 0.0019), NAME)[Hop.APPENDED]
    figure = after.plus(before, times=-1).figure()
    assert figure.mean_ms == pytest.approx(1.9)
    assert 1.5 <= figure.p50_ms <= 2.0


def test_two_gateways_are_one_histogram() -> None:
    one, two = (Buckets.parse(exported(*each), NAME)[Hop.APPENDED] for each in ((0.001,), (0.003, 0.003)))
    both = one.plus(two)
    assert both.count == 3
    assert both.figure().mean_ms == pytest.approx(7 / 3)


def test_a_median_beyond_all_bounds_is_the_last_bound_and_nothing_has_none() -> None:
    assert Buckets({0.1: 0.0, 5.0: 0.0, float("inf"): 3.0}, 60.0).figure() == Figure(5_000.0, 20_000.0)
    with pytest.raises(ValueError, match="no median"):
        Buckets({0.1: 0.0, float("inf"): 0.0}, 0.0).figure()


def test_the_hops_stand_in_their_order_and_the_rest_is_what_they_leave_of_the_mean() -> None:
    table = build_hops([budget("Session"), budget("Gateway")])
    assert list(table.columns) == [
        "at 100/s",
        "Session, p50 ms",
        "mean ms",
        "% of the mean",
        "Gateway, p50 ms",
        "mean ms",
        "% of the mean",
    ]
    assert [row[0] for row in table.rows] == [*HOPS.values(), "written → read by the client", "publish → client"]
    assert [row[1:4] for row in table.rows[-2:]] == [("-", 4.0, 16.0), (20.0, 25.0, 100.0)]
    assert table.rows[0][1:4] == (0.5, 1.0, 4.0)


def test_a_hop_that_is_missing_is_an_error_and_shifts_no_line() -> None:
    whole = budget("Session")
    part = Budget("Session", {CONSUMED: whole.hops[CONSUMED]}, whole.whole, 5.0)
    with pytest.raises(ValueError, match="zip"):
        build_hops([part])


def test_every_mode_is_compared_with_the_sum_of_the_three_parts() -> None:
    table = build_floor([budget("Session", 5.0), budget("Gateway", 6.0)], PARTS, script_ms=1.5)
    assert [row[1:] for row in table.rows[3:]] == [(4.0, 1.0), (1.5, 0.375), (5.0, 1.25), (6.0, 1.5)]


@pytest.mark.parametrize(("p50_ms", "reached"), [(5.2, True), (5.3, False)])
def test_the_aim_is_reached_when_every_mode_reaches_it(p50_ms: float, reached: bool) -> None:
    section = build_section([budget("Session", 4.0), budget("Gateway", p50_ms)], PARTS, 1.5, Load(rounds=7))
    assert section.reached is reached
    assert "in 7 rounds of 1.5 s" in section.render()


def test_the_age_of_a_message_is_noted_between_start_and_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 107.5)
    arrivals = Arrivals()
    body = encode_stamp(100.0) + b"..."
    arrivals.note(body)
    arrivals.start()
    arrivals.note(body)
    arrivals.note(b"no stamp")
    arrivals.stop()
    arrivals.note(body)
    assert arrivals.counts == [7.5]


def test_every_message_of_a_partition_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[object] = []
    monkeypatch.setattr(PartitionSession, "receive", lambda _, delivery: received.append(delivery))
    arrivals, session = Arrivals(), PartitionSession.__new__(PartitionSession)
    arrivals.start()
    watch(arrivals)
    delivery = type("Delivered", (), {"body": encode_stamp(0.0)})()
    session.receive(delivery)
    assert (received, len(arrivals.counts)) == ([delivery], 1)
