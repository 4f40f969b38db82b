"""The same runs with a broken product: the checker must report the loss, or its zeros above mean nothing."""

import pytest

from pushcluster_contract.routing import RoutingMode
from tests.chaos.cluster import chaos_cluster
from tests.chaos.run import run
from tests.support.containers import Services
from tests.support.planes import Plane

MESSAGES = 5_000


@pytest.mark.parametrize(
    ("mutant", "fault"),
    [
        ("APPEND is skipped", "kill_gateway"),
        ("CATCHUP is skipped", "kill_gateway"),
        ("acknowledged before the append", "kill_dispatcher"),
    ],
)
async def test_the_checker_reports_loss_when(
    mutant: str, fault: str, plane: Plane, services: Services, seed: int
) -> None:
    async with chaos_cluster(plane, services, RoutingMode.SESSION, mutant) as cluster:
        verdict = await run(cluster, getattr(cluster, fault), seed=seed, messages=MESSAGES, settles=False)
    assert verdict.report.lost > 0, verdict.report.describe()
