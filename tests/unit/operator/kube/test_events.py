"""Events say what happened to which PushCluster, and never flood etcd."""

from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import AsyncMock

import pytest

from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.kube.events import BURST, EventRecorder, build_event
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from tests.unit.operator.fake_kube import FakeKube
from tests.unit.operator.objects import body

IDENTITY = ClusterIdentity.from_body(body())
OTHER = ClusterIdentity.from_body(body(uid="uid-2"))
WHEN = datetime(2026, 1, 1, 13, 0, 0, tzinfo=timezone(timedelta(hours=1)))


class Bench:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.kube = FakeKube()
        self.recorder = EventRecorder(self.kube, now=lambda: WHEN, clock=lambda: self.seconds)

    async def record(self, times: int, of: ClusterIdentity = IDENTITY, **options: Any) -> int:
        """Return how many of so many Events are written."""
        before = len(self.kube.events)
        for _ in range(times):
            await self.recorder.record(of, "Ready", "all is well", **options)
        return len(self.kube.events) - before


def test_an_event_is_a_whole_one() -> None:
    assert build_event(IDENTITY, "Normal", "Ready", "all is well", WHEN, "abc") == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "demo.abc", "namespace": "team"},
        "involvedObject": {
            "apiVersion": "pushcluster.dev/v1alpha1",
            "kind": "PushCluster",
            "namespace": "team",
            "name": "demo",
            "uid": "uid-1",
        },
        "type": "Normal",
        "reason": "Ready",
        "message": "all is well",
        "firstTimestamp": "2026-01-01T12:00:00Z",
        "lastTimestamp": "2026-01-01T12:00:00Z",
        "count": 1,
        "source": {"component": "pushcluster-operator"},
        "reportingComponent": "pushcluster-operator",
        "reportingInstance": "",
    }
    assert len(build_event(IDENTITY, "Normal", "Ready", "x" * 1_001, WHEN, "abc")["message"]) == 1_000


async def test_a_burst_is_written_and_then_one_event_every_ten_seconds() -> None:
    bench = Bench()
    assert await bench.record(BURST + 5) == BURST == 20
    bench.seconds = 9.5
    assert await bench.record(1) == 0
    bench.seconds = 10.5
    assert await bench.record(2) == 1
    bench.seconds = 1e6
    assert await bench.record(BURST + 5) == BURST


async def test_a_pushcluster_that_is_loud_silences_no_other_and_is_forgotten_when_it_goes() -> None:
    bench = Bench()
    await bench.record(BURST)
    assert await bench.record(1, OTHER) == 1
    bench.recorder.forget(IDENTITY.uid)
    bench.recorder.forget("unknown")
    assert await bench.record(1) == 1


async def test_a_warning_is_one_and_every_event_has_a_name_of_its_own() -> None:
    bench = Bench()
    await bench.record(1)
    await bench.record(1, warning=True)
    first, second = bench.kube.events
    assert (first["type"], second["type"]) == ("Normal", "Warning")
    assert (second["reason"], second["message"]) == ("Ready", "all is well")
    assert first["metadata"]["name"] != second["metadata"]["name"]


@pytest.mark.parametrize("error", [Conflict("x"), Refused("x"), Unavailable("x")], ids=lambda e: type(e).__name__)
async def test_an_event_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    bench = Bench()
    monkeypatch.setattr(bench.kube, "create", AsyncMock(side_effect=error))
    assert await bench.record(1) == 0
