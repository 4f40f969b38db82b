"""Promises 1, 2 and 4 under traffic, with real processes: nothing confirmed is lost, reordered or silently missing."""

import time

from pushcluster_contract.routing import RoutingMode
from tests.chaos import report
from tests.chaos.cluster import chaos_cluster
from tests.chaos.run import MESSAGES, run
from tests.support.containers import Services
from tests.support.planes import Plane


async def test_nothing_that_was_confirmed_is_lost(
    mode: RoutingMode, fault: str, plane: Plane, services: Services, seed: int
) -> None:
    started = time.monotonic()
    async with chaos_cluster(plane, services, mode) as cluster:
        verdict = await run(cluster, getattr(cluster, fault), seed=seed)
    judgement = verdict.report
    report.record(mode.value, fault.replace("_", " "), verdict.seen, time.monotonic() - started, judgement)
    assert judgement.ok, judgement.describe()
    assert judgement.signalled_gaps == 0, judgement.describe()
    assert judgement.confirmed >= MESSAGES
    assert judgement.delivered == judgement.confirmed == judgement.attempted, judgement.describe()
    if fault == "restart_rabbitmq":
        assert verdict.back_end_connections > 1, "the back end never noticed"
