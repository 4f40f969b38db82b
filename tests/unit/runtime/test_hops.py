"""Which messages are followed, and which difference of times each hop gets."""

import re
from itertools import pairwise, permutations
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pushcluster_runtime.hops import (
    BUCKETS_MS,
    DISPATCHER_HOPS,
    DOUBLED_AFTER,
    GATEWAY_HOPS,
    SAMPLES_PER_S,
    WINDOW_S,
    Hop,
    HopTimes,
    Sampler,
    Trace,
)
from tests.support.clock import ManualClock

ROOT = Path(__file__).parents[3]


def followed(sampler: Sampler, began_s: float, *, count: int, within_s: float = WINDOW_S) -> list[int]:
    """Return which of so many messages are followed that come evenly in this time."""
    return [n for n in range(count) if sampler.takes(began_s + n * within_s / count)]


# Which messages are followed


def test_all_of_few_messages_are_followed() -> None:
    sampler = Sampler()
    for second in range(3):
        assert followed(sampler, 100.0 + second, count=DOUBLED_AFTER - 1) == list(range(DOUBLED_AFTER - 1))


@pytest.mark.parametrize("per_s", [100, 1_000, 30_000])
def test_of_many_about_as_many_are_followed_as_is_planned_and_they_are_spread_over_the_second(per_s: int) -> None:
    sampler = Sampler()
    followed(sampler, 100.0, count=per_s)
    for second in range(1, 6):
        found = followed(sampler, 100.0 + second, count=per_s)
        assert SAMPLES_PER_S / 3 <= len(found) <= SAMPLES_PER_S
        assert found[-1] > per_s / 2


@pytest.mark.parametrize(("count", "most"), [(500, 60), (50_000, 140)])
def test_a_sudden_flood_has_few_messages_that_are_followed_and_some_are_late_in_it(count: int, most: int) -> None:
    sampler = Sampler()
    found = followed(sampler, 100.0, count=count)
    assert SAMPLES_PER_S <= len(found) <= most
    assert found[-1] > count / 2


def test_after_a_flood_the_next_message_of_a_quiet_time_is_not_long_in_coming() -> None:
    sampler = Sampler()
    for second in range(3):
        followed(sampler, 100.0 + second, count=10_000)
    assert len(followed(sampler, 103.0, count=10, within_s=10.0)) >= 8


def test_the_first_message_of_a_window_is_not_always_followed() -> None:
    sampler = Sampler()
    firsts = [followed(sampler, 100.0 + second, count=1_000)[0] for second in range(12)]
    assert len(set(firsts[1:])) > 3


# What each hop gets


def times_and_clock(hops: tuple[Hop, ...] = DISPATCHER_HOPS) -> tuple[HopTimes, ManualClock, CollectorRegistry]:
    clock, registry = ManualClock(), CollectorRegistry()
    return HopTimes("dispatcher", hops, registry=registry, clock=clock), clock, registry


def totals(registry: CollectorRegistry) -> dict[str, tuple[float | None, float | None]]:
    """Return the number and the sum of each hop's seconds."""
    name, value = "pushcluster_dispatcher_hop_seconds", registry.get_sample_value
    return {hop: (value(f"{name}_count", {"hop": hop}), value(f"{name}_sum", {"hop": hop})) for hop in DISPATCHER_HOPS}


def test_each_hop_gets_the_time_since_the_one_before_it() -> None:
    times, clock, registry = times_and_clock()
    trace = Trace(times, DISPATCHER_HOPS)
    for seconds, hop in zip((1, 2, 4), DISPATCHER_HOPS, strict=True):
        clock.now += seconds
        trace.reached(hop)
    assert totals(registry) == {"append_sent": (1, 1), "appended": (1, 2), "copy_sent": (1, 4)}


def test_a_hop_counts_once() -> None:
    times, clock, registry = times_and_clock()
    trace = Trace(times, DISPATCHER_HOPS)
    for _ in range(2):
        clock.now += 1
        trace.reached(Hop.APPEND_SENT)
    clock.now += 1
    trace.reached(Hop.APPENDED)
    assert totals(registry) == {"append_sent": (1, 1), "appended": (1, 2), "copy_sent": (0, 0)}


@pytest.mark.parametrize("order", [each for each in permutations(DISPATCHER_HOPS) if each != DISPATCHER_HOPS])
def test_steps_in_another_order_do_not_give_all_figures(order: tuple[Hop, ...]) -> None:
    times, _, registry = times_and_clock()
    trace = Trace(times, DISPATCHER_HOPS)
    for hop in order:
        trace.reached(hop)
    assert [count for count, _ in totals(registry).values()].count(1) < len(DISPATCHER_HOPS)


def test_a_time_counts_in_the_first_bucket_that_is_not_below_it_and_in_all_above() -> None:
    times, _, registry = times_and_clock()
    for seconds in (0.0001, 0.00011, 0.005, 99.0):
        times.observe(Hop.APPENDED, seconds)

    def upto(bound: str) -> float | None:
        return registry.get_sample_value("pushcluster_dispatcher_hop_seconds_bucket", {"hop": "appended", "le": bound})

    bounds = ("0.0001", "0.0002", "0.004", "0.005", "5.0", "+Inf")
    assert [upto(bound) for bound in bounds] == [1, 2, 2, 3, 3, 4]


def test_a_program_without_a_registry_collects_the_same_by_itself() -> None:
    times = HopTimes("gateway", GATEWAY_HOPS)
    times.observe(Hop.WRITTEN, 0.25)
    (family,) = times.collect()
    sums = {sample.labels["hop"]: sample.value for sample in family.samples if sample.name.endswith("_sum")}
    assert (family.name, sums) == ("pushcluster_gateway_hop_seconds", {"copy_read": 0, "written": 0.25})


def test_the_buckets_tell_everyday_latencies_apart() -> None:
    assert list(BUCKETS_MS) == sorted(set(BUCKETS_MS))
    assert BUCKETS_MS[0] <= 0.1
    assert all(upper / lower <= 2.5 for lower, upper in pairwise(BUCKETS_MS))


# What the document says


def test_every_hop_is_explained_in_the_order_of_the_way() -> None:
    assert (*DISPATCHER_HOPS, *GATEWAY_HOPS) == tuple(Hop)
    text = (ROOT / "docs" / "internals" / "performance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `pushcluster_(\w+)_hop_seconds` \|", text, re.MULTILINE)
    programs = ["dispatcher"] * len(DISPATCHER_HOPS) + ["gateway"] * len(GATEWAY_HOPS)
    assert rows == list(zip(Hop, programs, strict=True))
