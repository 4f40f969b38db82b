"""The lease, the walk and the resync."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import LEASE_MS, LEASE_RENEW_MS
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry import lease_keeper as lease_keeper_module
from pushcluster_gateway.registry import walk_pace
from pushcluster_gateway.registry.lease import ResyncCause
from pushcluster_gateway.registry.lease_keeper import RESYNC_BATCH_SESSIONS, STUCK_AFTER_S, LeaseKeeper
from pushcluster_gateway.registry.store import Renewal, SessionRegistry
from pushcluster_gateway.registry.walk_pace import FAST_ROUND_S
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.hub import Hub
from tests.support.waiting import eventually
from tests.unit.gateway.fakes import FakeClient, FakeRegistry, as_client


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the exceptions in the log say."""
    return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


class TestLeaseKeeper:
    def lease_keeper(
        self, refresh: Callable[[Client, bool], Any] | None = None, walk_round_s: float = 100
    ) -> tuple[LeaseKeeper, FakeRegistry, Hub, list[float]]:
        now = [1_000.0]
        self.broker_away_s = 0.0
        registry, hub = FakeRegistry(), Hub()

        async def nothing(client: Client, resync: bool) -> None:
            pass

        lease_keeper = LeaseKeeper(
            registry=cast(SessionRegistry, registry),
            hub=hub,
            refresh=refresh or nothing,
            metrics=Metrics(),
            environment=Environment(lambda: now[0], lambda: 0.0, lambda size: b"x" * size, lambda: 0.5),
            walk_round_s=walk_round_s,
            broker_away_s=lambda: self.broker_away_s,
        )
        return lease_keeper, registry, hub, now

    async def test_without_a_lease_it_is_renewed_before_a_session_is_registered(self) -> None:
        lease_keeper, registry, _, now = self.lease_keeper()
        before = lease_keeper.lease_held
        await lease_keeper.ensure_lease()
        after = lease_keeper.lease_held
        now[0] += LEASE_MS / 1_000
        assert (before, after, lease_keeper.lease_held) == (False, True, False)
        registry.away = True
        with pytest.raises(Unavailable):
            await lease_keeper.ensure_lease()

    async def test_while_the_lease_is_held_nobody_asks_redis(self) -> None:
        lease_keeper, registry, _, _ = self.lease_keeper()
        await lease_keeper.ensure_lease()
        registry.away = True
        await lease_keeper.ensure_lease()

    async def test_many_sessions_without_a_lease_ask_for_one_together(self) -> None:
        lease_keeper, registry, _, _ = self.lease_keeper()
        await asyncio.gather(*(lease_keeper.ensure_lease() for _ in range(20)))
        assert registry.renewed == 1

    async def test_many_sessions_are_refused_by_one_renewal_that_fails(self) -> None:
        """In line behind one another they would wait for as many replies that do not come."""
        lease_keeper, registry, _, _ = self.lease_keeper()
        registry.away = True
        results = await asyncio.gather(*(lease_keeper.ensure_lease() for _ in range(20)), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 20
        assert registry.asked == 1

    async def test_after_a_renewal_without_an_answer_no_session_is_registered_before_there_is_one(self) -> None:
        lease_keeper, registry, _, _ = self.lease_keeper()
        await lease_keeper.ensure_lease()
        registry.away = True
        with pytest.raises(Unavailable):
            await lease_keeper.renew()
        assert lease_keeper.lease_held
        with pytest.raises(Unavailable):
            await lease_keeper.ensure_lease()
        registry.away = False
        await lease_keeper.ensure_lease()
        registry.away = True
        await lease_keeper.ensure_lease()

    async def test_while_redis_is_silent_nobody_waits_for_one_more_answer(self) -> None:
        lease_keeper, registry, _, now = self.lease_keeper()
        await lease_keeper.ensure_lease()
        registry.away = True
        with pytest.raises(Unavailable):
            await lease_keeper.renew()
        now[0] += LEASE_MS / 1_000
        with pytest.raises(Unavailable, match="away"):
            await lease_keeper.ensure_lease()
        assert registry.asked == 2
        registry.away = False
        with pytest.raises(Unavailable):
            await lease_keeper.ensure_lease()
        await lease_keeper.renew()
        await lease_keeper.ensure_lease()

    async def test_a_process_that_was_frozen_asks_at_once(self) -> None:
        lease_keeper, registry, _, now = self.lease_keeper()
        await lease_keeper.ensure_lease()
        now[0] += 60
        await lease_keeper.ensure_lease()
        assert registry.renewed == 2

    async def test_a_process_that_does_not_even_try_to_renew_is_stuck(self) -> None:
        lease_keeper, registry, _, now = self.lease_keeper()
        registry.away = True
        now[0] += STUCK_AFTER_S - 1
        assert lease_keeper.alive
        with pytest.raises(Unavailable):
            await lease_keeper.renew()
        now[0] += STUCK_AFTER_S - 1
        assert lease_keeper.alive, "it tried, and Redis is away"
        now[0] += 1
        assert not lease_keeper.alive

    async def test_a_resync_writes_every_session_back_whatever_one_of_them_does(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        refreshed: list[str] = []

        async def refresh(client: Client, resync: bool) -> None:
            if client.sid == "broken":
                raise ValueError("this user's keys are broken")
            refreshed.append(client.sid)
            assert resync

        lease_keeper, registry, hub, _ = self.lease_keeper(refresh)
        for sid in ("a", "broken", "b"):
            hub.add(as_client(FakeClient("alice", sid)))
        await lease_keeper.ensure_lease()
        registry.renewals = [Renewal(existed=False, run_id="r", gateways=2)]
        walk = asyncio.create_task(lease_keeper.run_walk())
        await lease_keeper.renew()
        await eventually(lambda: refreshed == ["a", "b"], within_s=2)
        await eventually(lambda: errors(caplog), within_s=2)
        walk.cancel()
        assert errors(caplog) == ["this user's keys are broken"], "it tells of this session, and of no other"

    async def test_one_session_more_than_a_batch_is_written_back_after_it(self) -> None:
        begun, release = 0, asyncio.Event()

        async def refresh(client: Client, resync: bool) -> None:
            nonlocal begun
            begun += 1
            await release.wait()

        lease_keeper, _, hub, _ = self.lease_keeper(refresh)
        for n in range(RESYNC_BATCH_SESSIONS + 1):
            hub.add(as_client(FakeClient("alice", f"s{n}")))
        lease_keeper.request_resync(ResyncCause.REDIS_RESTARTED)
        walk = asyncio.create_task(lease_keeper.run_walk())
        await eventually(lambda: begun == RESYNC_BATCH_SESSIONS, within_s=2)
        await asyncio.sleep(0)
        assert begun == RESYNC_BATCH_SESSIONS
        release.set()
        await eventually(lambda: begun == RESYNC_BATCH_SESSIONS + 1, within_s=2)
        walk.cancel()

    async def test_a_resync_that_redis_cut_short_is_repeated(self) -> None:
        attempts: list[str] = []

        async def refresh(client: Client, resync: bool) -> None:
            attempts.append(client.sid)
            if len(attempts) == 1:
                raise Unavailable("away")

        lease_keeper, _, hub, _ = self.lease_keeper(refresh)
        hub.add(as_client(FakeClient("alice", "a")))
        lease_keeper.request_resync(ResyncCause.REDIS_RESTARTED)
        walk = asyncio.create_task(lease_keeper.run_walk())
        await eventually(lambda: len(attempts) == 2, within_s=2)
        walk.cancel()
        assert lease_keeper._metrics.redis_errors == 1

    async def test_the_walk_looks_at_every_session_once_a_round(self) -> None:
        lease_keeper, _, hub, _ = self.lease_keeper(walk_round_s=10)
        for n in range(35):
            hub.add(as_client(FakeClient("alice", f"s{n}")))
        steps = [lease_keeper.next_walk_step() for _ in range(11)]
        assert {len(step) for step in steps[:10]} <= {3, 4}
        assert sorted(sid for step in steps[:10] for sid in step) == sorted(hub.session_ids())

    async def test_without_copies_the_walk_is_faster(self) -> None:
        lease_keeper, _, hub, _ = self.lease_keeper(walk_round_s=100)
        for n in range(100):
            hub.add(as_client(FakeClient("alice", f"s{n}")))
        assert len(lease_keeper.next_walk_step()) == 1
        self.broker_away_s = 0.1
        assert len(lease_keeper.next_walk_step()) == 100 / FAST_ROUND_S

    async def test_without_copies_the_walk_is_no_faster_than_all_gateways_together_can_bear(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(walk_pace, "FAST_READS_PER_S", 30)
        lease_keeper, registry, hub, _ = self.lease_keeper(walk_round_s=1_000)
        self.broker_away_s = 0.1
        registry.renewals = [Renewal(existed=True, run_id="r", gateways=3)]
        await lease_keeper.renew()
        for n in range(100):
            hub.add(as_client(FakeClient("alice", f"s{n}")))
        assert [len(lease_keeper.next_walk_step()) for _ in range(5)] == [10] * 5, "of three gateways, 30 in a second"

    async def test_the_lease_is_renewed_at_regular_intervals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lease_keeper, registry, _, _ = self.lease_keeper()
        waits: list[tuple[float, int]] = []
        sleep, enough = asyncio.sleep, asyncio.Event()

        async def note(delay_s: float) -> None:
            if delay_s:
                waits.append((delay_s, registry.renewed))
            if len(waits) == 3:
                enough.set()
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", note)
        renewals = asyncio.create_task(lease_keeper.run_renewals())
        async with asyncio.timeout(5):
            await enough.wait()
        renewals.cancel()
        assert waits[:3] == [(LEASE_RENEW_MS / 1_000, renewed) for renewed in range(3)]

    async def test_a_renewal_tells_how_long_the_broker_has_been_away(self) -> None:
        lease_keeper, registry, _, _ = self.lease_keeper()
        for told in (0.0, 7.5):
            self.broker_away_s = told
            await lease_keeper.renew()
            assert registry.broker_away_s == told

    async def test_one_session_is_not_looked_at_more_often_than_once_a_round(self) -> None:
        lease_keeper, _, hub, _ = self.lease_keeper(walk_round_s=10)
        hub.add(as_client(FakeClient("alice", "s")))
        assert sum(len(lease_keeper.next_walk_step()) for _ in range(40)) in {3, 4}

    async def test_what_redis_last_answered_shows_and_why_it_did_not(self) -> None:
        lease_keeper, registry, _, now = self.lease_keeper()
        assert (lease_keeper.last_error != "", lease_keeper.gateways, lease_keeper.redis_answering_s) == (True, 1, 0.0)
        registry.away = True
        with pytest.raises(Unavailable):
            await lease_keeper.renew()
        assert lease_keeper.last_error == "away"
        registry.away = False
        registry.renewals = [Renewal(existed=True, run_id="r", gateways=5)]
        await lease_keeper.renew()
        now[0] += 3
        assert (lease_keeper.gateways, lease_keeper.redis_answering_s) == (5, 3.0)

    async def test_a_renewal_counts_from_when_it_was_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer may take long: the lease in Redis is as old as the question at most."""
        lease_keeper, registry, _, now = self.lease_keeper()

        async def answer_late(_: float) -> Renewal:
            now[0] += LEASE_MS / 1_000
            return Renewal(existed=True, run_id="r", gateways=2)

        monkeypatch.setattr(registry, "renew_lease", answer_late)
        await lease_keeper.renew()
        assert not lease_keeper.lease_held

    @pytest.mark.parametrize(
        ("renewal", "counted"),
        [
            (Renewal(existed=False, run_id="r", gateways=2), {ResyncCause.LEASE_LOST: 1}),
            (Renewal(existed=True, run_id="another", gateways=2), {ResyncCause.REDIS_RESTARTED: 2}),
            (Renewal(existed=True, run_id="r", gateways=2), {}),
        ],
        ids=["a lost lease", "another Redis and back", "all as before"],
    )
    async def test_each_reason_for_a_resync_is_counted(self, renewal: Renewal, counted: dict[ResyncCause, int]) -> None:
        lease_keeper, registry, _, _ = self.lease_keeper()
        await lease_keeper.renew()
        registry.renewals = [renewal]
        await lease_keeper.renew()
        await lease_keeper.renew()
        assert +lease_keeper._metrics.resyncs == counted
        assert lease_keeper._metrics.lease_renewals == 3

    async def test_after_an_uncertain_renewal_everything_is_written_back_once(self) -> None:
        lease_keeper, registry, _, _ = self.lease_keeper()
        await lease_keeper.renew()
        registry.away = True
        with pytest.raises(Unavailable):
            await lease_keeper.renew()
        registry.away = False
        await lease_keeper.renew()
        await lease_keeper.renew()
        assert +lease_keeper._metrics.resyncs == {ResyncCause.LEASE_UNCERTAIN: 1}

    async def test_a_resync_is_done_once_and_the_walk_goes_on_after_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease_keeper_module, "WALK_STEP_S", 0.01)
        seen: list[tuple[str, bool]] = []

        async def refresh(client: Client, resync: bool) -> None:
            seen.append((client.sid, resync))

        lease_keeper, _, hub, _ = self.lease_keeper(refresh, walk_round_s=0.01)
        hub.add(as_client(FakeClient("alice", "a")))
        lease_keeper.request_resync(ResyncCause.REDIS_RESTARTED)
        walk = asyncio.create_task(lease_keeper.run_walk())
        await eventually(lambda: len(seen) >= 4, within_s=5)
        walk.cancel()
        assert seen[:4] == [("a", True), *[("a", False)] * 3]

    async def test_renewals_go_on_after_any_failure_and_those_of_redis_are_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease_keeper_module, "LEASE_RENEW_MS", 10)
        lease_keeper, registry, _, _ = self.lease_keeper()
        renew, failures = registry.renew_lease, [Unavailable("away"), ValueError("nobody thought of this")]

        async def fail_twice(broker_away_s: float) -> Renewal:
            if failures:
                raise failures.pop(0)
            return await renew(broker_away_s)

        monkeypatch.setattr(registry, "renew_lease", fail_twice)
        renewals = asyncio.create_task(lease_keeper.run_renewals())
        await eventually(lambda: registry.renewed >= 1, within_s=5)
        renewals.cancel()
        assert lease_keeper._metrics.redis_errors == 1

    async def test_the_walk_begins_its_back_off_anew_once_redis_has_answered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease_keeper_module, "WALK_STEP_S", 0.001)
        answers = iter([False, False, True, False])
        delays: list[float] = []
        slept = asyncio.Event()
        sleep = asyncio.sleep

        async def note(delay_s: float) -> None:
            delays.append(delay_s)
            if len(delays) == 3:
                slept.set()
            await sleep(0)

        async def refresh(client: Client, resync: bool) -> None:
            if not next(answers, True):
                raise Unavailable("away")

        lease_keeper, _, hub, _ = self.lease_keeper(refresh, walk_round_s=0.001)
        hub.add(as_client(FakeClient("alice", "a")))
        monkeypatch.setattr(asyncio, "sleep", note)
        walk = asyncio.create_task(lease_keeper.run_walk())
        async with asyncio.timeout(5):
            await slept.wait()
        walk.cancel()
        assert delays[0] < delays[1]
        assert delays[2] == delays[0]
