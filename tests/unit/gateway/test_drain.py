"""How a gateway that stops closes its connections."""

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_contract.limits import ENDPOINTS_UPDATE_S
from pushcluster_gateway import close_codes
from pushcluster_gateway import drain as drain_module
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.drain import BATCH_S, CLOSES_PER_S, UNPACED_CONNECTIONS, drain, plan_drain
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.server import WebSocketServer


class TestDrainPlan:
    def test_few_connections_are_closed_at_once(self) -> None:
        assert [(batch.count, batch.then_wait_s) for batch in plan_drain(UNPACED_CONNECTIONS, 60, lambda: 0.5)] == [
            (UNPACED_CONNECTIONS, 0.0)
        ]
        assert plan_drain(0, 60, lambda: 0.5) == []

    @given(st.integers(1, 30_000), st.integers(0, 120), st.randoms(use_true_random=False))
    def test_every_connection_is_closed_within_the_time(self, connections: int, seconds: int, random: object) -> None:
        plan = plan_drain(connections, seconds, random.random)  # type: ignore[attr-defined]
        assert sum(batch.count for batch in plan) == connections
        assert sum(batch.then_wait_s for batch in plan) <= max(seconds, 0.25)

    def test_many_connections_are_spread_and_no_batch_stands_out(self) -> None:
        plan = plan_drain(20_000, 60, lambda: 0.5)
        assert len(plan) > 100
        assert max(batch.count for batch in plan) <= 2 * 20_000 / len(plan)

    @pytest.mark.parametrize("connections", [1, UNPACED_CONNECTIONS, UNPACED_CONNECTIONS + 1, 10_000])
    def test_without_time_everything_is_closed_at_once(self, connections: int) -> None:
        assert [(each.count, each.then_wait_s) for each in plan_drain(connections, 0, lambda: 0.5)] == [
            (connections, 0.0)
        ]

    def test_one_connection_more_than_goes_at_once_is_paced(self) -> None:
        assert [(each.count, each.then_wait_s) for each in plan_drain(UNPACED_CONNECTIONS + 1, 60, lambda: 1.0)] == [
            (UNPACED_CONNECTIONS + 1, BATCH_S)
        ]

    def test_with_time_enough_the_pace_is_even_and_with_less_it_is_faster(self) -> None:
        slow, fast = (plan_drain(10 * CLOSES_PER_S, seconds, lambda: 1.0) for seconds in (60, 5))
        assert {each.count for each in slow} == {CLOSES_PER_S * BATCH_S}
        assert {each.count for each in fast} == {2 * CLOSES_PER_S * BATCH_S}
        assert (sum(each.then_wait_s for each in slow), sum(each.then_wait_s for each in fast)) == (10, 5)

    def test_the_pace_is_two_hundred_a_second(self) -> None:
        plan = plan_drain(1_000, 60, lambda: 1.0)
        assert [(each.count, each.then_wait_s) for each in plan] == [(50, 0.25)] * 20

    def test_one_second_is_time_too(self) -> None:
        assert [each.count for each in plan_drain(1_000, 1, lambda: 1.0)] == [250] * 4

    def test_a_pause_is_between_half_of_its_share_and_all_of_it(self) -> None:
        assert {each.then_wait_s for each in plan_drain(1_000, 60, lambda: 0.0)} == {BATCH_S / 2}
        assert {each.then_wait_s for each in plan_drain(1_000, 60, lambda: 1.0)} == {BATCH_S}


class PlayedConnection:
    def __init__(self, server: "PlayedServer") -> None:
        self._server = server

    def close(self, close: Close) -> None:
        self._server.events.append(close)


class PlayedServer:
    """As much of a WebSocketServer as a drain asks for; notes what is done, in order."""

    def __init__(self, connections: int, sockets: int) -> None:
        self.events: list[object] = []
        self.draining = False
        self.sockets = sockets
        self.connections = [PlayedConnection(self) for _ in range(connections)]

    async def wait_empty(self, within_s: float) -> None:
        self.events.append(f"wait until empty for {within_s:g} s")

    async def close(self) -> None:
        self.events.append("close")


class TestDrain:
    @pytest.fixture
    def server(self) -> PlayedServer:
        return PlayedServer(connections=UNPACED_CONNECTIONS + 1, sockets=UNPACED_CONNECTIONS + 1)

    @pytest.fixture(autouse=True)
    def slept(self, server: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note pauses instead of making them."""

        async def sleep(seconds: float) -> None:
            assert server.draining, "a pod that stops takes nobody, also while it waits"
            server.events.append(f"sleep {seconds:g} s")

        monkeypatch.setattr(drain_module, "asyncio", SimpleNamespace(sleep=sleep))

    async def drained(self, server: PlayedServer) -> list[object]:
        limits = Limits(close_timeout_s=7)
        await drain(cast(WebSocketServer, server), limits=limits, max_seconds=60, random=lambda: 1.0)
        return server.events

    async def test_it_waits_for_the_endpoints_before_it_closes_anybody(self, server: PlayedServer) -> None:
        """Who is closed while the Service still names this pod comes back to it, and is refused."""
        assert await self.drained(server) == [
            f"sleep {ENDPOINTS_UPDATE_S:g} s",
            *[close_codes.DRAINING] * (UNPACED_CONNECTIONS + 1),
            f"sleep {BATCH_S:g} s",
            "wait until empty for 7 s",
            "close",
        ]

    async def test_it_waits_for_the_endpoints_also_when_all_sockets_are_still_pending(
        self, server: PlayedServer
    ) -> None:
        server.connections.clear()
        assert (await self.drained(server))[0] == f"sleep {ENDPOINTS_UPDATE_S:g} s"

    async def test_without_sockets_there_is_nothing_to_wait_for(self, server: PlayedServer) -> None:
        server.sockets = 0
        server.connections.clear()
        assert await self.drained(server) == ["wait until empty for 7 s", "close"]

    async def test_it_closes_batch_by_batch(self, server: PlayedServer) -> None:
        server.connections = [PlayedConnection(server) for _ in range(CLOSES_PER_S)]
        batch = [*[close_codes.DRAINING] * int(CLOSES_PER_S * BATCH_S), f"sleep {BATCH_S:g} s"]
        assert (await self.drained(server))[1:-2] == batch * int(1 / BATCH_S)
