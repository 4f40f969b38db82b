"""The canary tells a quiet cluster from deaf watches; Events are written sparingly."""

from datetime import UTC, datetime

from pushcluster_operator.controller.canary import NAME, WATCHES_DEAD_AFTER_S, Canary
from pushcluster_operator.kube.events import (
    BURST,
    REFILL_S,
    EventRecorder,
    build_event,
)
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from tests.unit.operator.fake_kube import FakeKube
from tests.unit.operator.objects import body

IDENTITY = ClusterIdentity.from_body(body())


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_a_canary_whose_events_arrive_keeps_the_process_healthy() -> None:
    clock = Clock()
    canary = Canary(FakeKube(), "ns", clock)
    for _ in range(10):
        clock.seconds += WATCHES_DEAD_AFTER_S
        await canary.beat()
        assert canary.receive("ns", NAME)
        assert canary.watches_work()


async def test_a_canary_without_events_makes_the_process_unhealthy() -> None:
    clock = Clock()
    canary = Canary(FakeKube(), "ns", clock)
    await canary.beat()
    clock.seconds = WATCHES_DEAD_AFTER_S - 1
    await canary.beat()
    assert canary.watches_work()
    assert not canary.receive("ns", "another")
    clock.seconds = WATCHES_DEAD_AFTER_S
    assert not canary.watches_work()


async def test_an_api_server_that_is_down_is_not_held_against_the_watches() -> None:
    clock, kube = Clock(), FakeKube()
    canary = Canary(kube, "ns", clock)
    kube.down = True
    await canary.beat()
    clock.seconds = WATCHES_DEAD_AFTER_S * 2
    assert canary.watches_work()


async def test_a_flood_of_events_is_cut_off_and_let_through_again_later() -> None:
    clock, kube = Clock(), FakeKube()
    recorder = EventRecorder(kube, clock=clock)
    for _ in range(BURST + 10):
        await recorder.record(IDENTITY, "Ready", "text")
    assert len(kube.events) == BURST
    clock.seconds = REFILL_S
    await recorder.record(IDENTITY, "Ready", "text")
    assert len(kube.events) == BURST + 1


async def test_an_event_that_cannot_be_written_is_no_error() -> None:
    kube = FakeKube()
    kube.down = True
    await EventRecorder(kube).record(IDENTITY, "Ready", "text")


def test_an_event_belongs_to_its_pushcluster() -> None:
    event = build_event(IDENTITY, "Warning", "Reason", "x" * 5_000, datetime(2026, 1, 1, tzinfo=UTC), "abc")
    assert event["metadata"] == {"name": "demo.abc", "namespace": "team"}
    assert (event["involvedObject"]["uid"], event["firstTimestamp"]) == ("uid-1", "2026-01-01T00:00:00Z")
    # The API server takes at most 1 KiB.
    assert len(event["message"]) <= 1_024
