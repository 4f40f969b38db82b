"""How a gateway that stops closes its connections."""

from hypothesis import given
from hypothesis import strategies as st

from pushcluster_gateway.drain import AT_ONCE, plan_drain


class TestDrainPlan:
    def test_few_connections_are_closed_at_once(self) -> None:
        assert [(batch.count, batch.then_wait_s) for batch in plan_drain(AT_ONCE, 60, lambda: 0.5)] == [(AT_ONCE, 0.0)]
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
