"""What a client is told when its request fails, and what the log says."""

import re
from itertools import count
from typing import Final

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.fault_references import SHARED_S
from pushcluster_gateway.session.tasks import ClientTasks
from tests.support.clock import ManualClock

AWAY: Final = "Redis: Error 111 connecting to demo-redis.shop.svc:6379. Connection refused."


class FakeRequester:
    """Notes how its connection ends."""

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.failed: list[tuple[Close, str, str | None]] = []

    def call_ended(self) -> None: ...

    def fail(self, close: Close, detail: str, receipt: str | None = None) -> None:
        self.failed.append((close, detail, receipt))


class Bench:
    def __init__(self) -> None:
        numbers = count(1)
        self.clock = ManualClock()
        environment = Environment(
            self.clock, lambda: 0.0, lambda size: next(numbers).to_bytes(size, "big"), lambda: 0.5
        )
        self.tasks = ClientTasks(Metrics(), environment)

    async def fail(self, error: Exception, sid: str = "s") -> tuple[Close, str, str | None]:
        """Run a request that fails, and return what its client is told."""

        async def work() -> None:
            raise error

        client = FakeRequester(sid)
        await self.tasks.spawn(work, client, "r1")
        (told,) = client.failed
        return told


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_client_is_told_a_reference_and_the_log_has_it_with_the_cause(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    close, detail, receipt = await bench.fail(Unavailable(AWAY))
    assert (close, receipt) == (close_codes.UNAVAILABLE, "r1")
    assert "6379" not in detail
    assert "Redis" not in detail
    (said,) = caplog.records
    assert said.__dict__["cause"] == AWAY
    assert said.__dict__["session"] == "s"
    assert detail.endswith(f" {said.__dict__['reference']}")


async def test_many_failures_for_one_cause_are_one_line_of_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    told = {(await bench.fail(Unavailable(AWAY), f"s{n}"))[1] for n in range(100)}
    assert len(told) == len(caplog.records) == 1
    bench.clock.now += SHARED_S
    assert (await bench.fail(Unavailable(AWAY)))[1] not in told
    assert len(caplog.records) == 2


async def test_a_time_to_come_again_is_passed_on(bench: Bench) -> None:
    close, _, _ = await bench.fail(Unavailable(AWAY, retry_after_ms=7_000))
    assert close.retry_after_ms == 7_000


async def test_an_unexpected_error_has_a_reference_of_its_own(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    close, detail, _ = await bench.fail(ValueError("10.0.0.7"))
    assert close is close_codes.INTERNAL_ERROR
    assert "10.0.0.7" not in detail
    (said,) = caplog.records
    assert said.exc_info is not None
    assert detail.endswith(f" {said.__dict__['reference']}")
    assert re.search(r" [0-9a-f]{8}$", detail)
    assert (await bench.fail(ValueError("10.0.0.7")))[1] != detail
