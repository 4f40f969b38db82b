"""Outbox, wheel, lease, deadlines, progress, framing, closes and the drain's plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from pushcluster_contract.ids import StreamId
from pushcluster_contract.limits import LEASE_MS
from pushcluster_gateway import close_codes
from pushcluster_gateway.drain import UNPACED_CONNECTIONS, plan_drain
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.registry.lease import OwnLease, ResyncCause
from pushcluster_gateway.session.deadlines import NEVER, SEND_EARLY, Deadlines
from pushcluster_gateway.session.progress import Progress
from pushcluster_gateway.stomp.frames import HeartBeat
from pushcluster_gateway.transport.frame_writer import encode_message
from pushcluster_gateway.transport.outbox import Outbox
from pushcluster_gateway.transport.timer_wheel import NOT_SCHEDULED, TimerWheel


class TestOutbox:
    limits = Limits(max_outbox_bytes=100, max_outbox_messages=3, max_control_bytes=50, slow_consumer_s=10)

    def test_what_waits_becomes_one_write(self) -> None:
        outbox = Outbox(self.limits)
        assert outbox.add(b"a")
        assert not outbox.add_message(b"bc")
        assert outbox.end_offset == 3
        assert outbox.take() == b"abc"
        assert outbox.take() == b""
        assert outbox.written_bytes == outbox.end_offset == 3

    def test_it_is_full_at_its_bytes(self) -> None:
        outbox = Outbox(self.limits)
        outbox.add_message(b"x" * 99)
        assert outbox.free_bytes == 1
        outbox.add_message(b"x" * 50)
        assert outbox.free_bytes == 0

    def test_it_is_full_at_its_messages(self) -> None:
        outbox = Outbox(self.limits)
        for _ in range(3):
            assert outbox.free_bytes
            outbox.add_message(b"x")
        assert outbox.free_bytes == 0
        outbox.take()
        assert outbox.free_bytes == 100

    def test_while_the_transport_is_paused_the_outbox_is_full_and_nothing_is_taken(self) -> None:
        outbox = Outbox(self.limits)
        outbox.paused = True
        outbox.add(b"x")
        assert outbox.free_bytes == 0
        assert outbox.take() == b""
        outbox.paused = False
        assert outbox.take() == b"x"

    def test_a_client_that_does_not_take_its_receipts_is_not_read_any_more(self) -> None:
        outbox = Outbox(self.limits)
        outbox.add(b"x" * 149)
        assert not outbox.refuses_input
        outbox.add(b"x")
        assert outbox.refuses_input

    def test_a_socket_is_stalled_when_it_takes_nothing_for_too_long(self) -> None:
        outbox = Outbox(self.limits)
        outbox.paused = True
        assert not outbox.stalled(0, 1_000)
        assert not outbox.stalled(9, 1_000)
        assert not outbox.stalled(9.5, 999), "it took a byte"
        assert not outbox.stalled(19, 999)
        assert outbox.stalled(19.5, 999)
        outbox.paused = False
        assert not outbox.stalled(20, 999)


class Item:
    def __init__(self) -> None:
        self.wheel_slot = NOT_SCHEDULED


class TestWheel:
    def test_an_item_comes_back_when_it_is_due_and_not_before(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=100)
        item = Item()
        wheel.schedule(item, 101.1)
        assert wheel.advance(101.0) == []
        assert wheel.advance(101.25) == [item]
        assert wheel.advance(200) == []

    def test_a_new_plan_replaces_the_old_one_and_a_cancelled_item_never_comes(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=0)
        sooner, cancelled = Item(), Item()
        wheel.schedule(sooner, 3)
        wheel.schedule(sooner, 1)
        wheel.schedule(cancelled, 1)
        wheel.cancel(cancelled)
        wheel.cancel(cancelled)
        assert wheel.advance(1) == [sooner]
        assert wheel.advance(3.5) == []

    def test_what_is_due_already_comes_with_the_next_tick(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=10)
        item = Item()
        wheel.schedule(item, 1)
        assert wheel.advance(10.25) == [item]

    def test_after_a_long_sleep_everything_that_was_due_comes_at_once(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=0)
        items = [Item() for _ in range(12)]
        for n, item in enumerate(items):
            wheel.schedule(item, n * 0.25)
        assert set(wheel.advance(1_000)) == set(items)

    @given(st.lists(st.tuples(st.floats(0, 60), st.floats(0.01, 3)), min_size=1, max_size=30))
    def test_never_early_within_a_turn_and_never_later_than_a_tick(self, plans: list[tuple[float, float]]) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=512, now=0)
        due = {}
        for at, _ in plans:
            item = Item()
            due[item] = at
            wheel.schedule(item, at)
        now = 0.0
        for _, step in plans * 10:
            before, now = now, now + step
            for item in wheel.advance(now):
                assert due.pop(item) <= now
            assert all(at > before - 0.25 for at in due.values())


class TestLease:
    def test_it_is_held_for_its_time_after_the_renewal_was_sent(self) -> None:
        assert not OwnLease().held(5)
        lease, cause = OwnLease().renewed(existed=False, run_id="a", sent_s=5)
        assert cause is None, "the first one is made, not missing"
        assert lease.held(5 + LEASE_MS / 1_000 - 0.001)
        assert not lease.held(5 + LEASE_MS / 1_000)

    @pytest.mark.parametrize(
        ("existed", "run_id", "cause"),
        [
            (True, "a", None),
            (False, "a", ResyncCause.LEASE_LOST),
            (True, "b", ResyncCause.REDIS_RESTARTED),
            (False, "b", ResyncCause.LEASE_LOST),
        ],
    )
    def test_a_missing_lease_or_another_redis_asks_for_a_resync(
        self, existed: bool, run_id: str, cause: ResyncCause | None
    ) -> None:
        lease, _ = OwnLease().renewed(existed=False, run_id="a", sent_s=5)
        renewed, why = lease.renewed(existed=existed, run_id=run_id, sent_s=7)
        assert why is cause
        assert renewed == OwnLease(7, run_id, redis_answering_since_s=7 if why else 5)

    def test_redis_has_been_answering_since_no_lease_could_run_out(self) -> None:
        lease = OwnLease()
        assert lease.redis_answering_for_s(100) == 0
        for sent_s in (10, 16, 22):
            lease = lease.failed().renewed(existed=True, run_id="a", sent_s=sent_s)[0]
        assert lease.redis_answering_for_s(25) == 15
        assert lease.redis_answering_for_s(30) == 0, "it may have stopped answering everybody"

    @pytest.mark.parametrize(
        ("sent_s", "existed", "run_id"),
        [(22 + LEASE_MS / 1_000, True, "a"), (24, False, "a"), (24, True, "b")],
        ids=["it had run out", "it was missing", "another Redis"],
    )
    def test_a_redis_that_lost_leases_begins_to_answer_anew(self, sent_s: float, existed: bool, run_id: str) -> None:
        lease = OwnLease(renewed_s=22, run_id="a", redis_answering_since_s=5)
        lease, _ = lease.renewed(existed=existed, run_id=run_id, sent_s=sent_s)
        assert lease.redis_answering_for_s(sent_s + 1) == 1

    def test_after_a_renewal_without_an_answer_the_next_one_asks_for_a_resync(self) -> None:
        lease, _ = OwnLease().renewed(existed=False, run_id="a", sent_s=5)
        lease, why = lease.failed().renewed(existed=True, run_id="a", sent_s=9)
        assert why is ResyncCause.LEASE_UNCERTAIN
        assert lease.renewed(existed=True, run_id="a", sent_s=11)[1] is None

    def test_before_there_ever_was_a_lease_a_failure_means_nothing(self) -> None:
        assert OwnLease().failed().renewed(existed=False, run_id="a", sent_s=5)[1] is None


class TestDeadlines:
    limits = Limits(connect_timeout_s=10, heart_beat_grace=2.0)

    def connected(self, ours: HeartBeat, theirs: HeartBeat, expires_at: float = NEVER) -> Deadlines:
        deadlines = Deadlines(self.limits, 0)
        deadlines.connected(ours=ours, theirs=theirs, expires_at=expires_at)
        return deadlines

    def test_connect_must_come_in_time(self) -> None:
        deadlines = Deadlines(self.limits, 0)
        assert deadlines.check(9.9, written_at=0).look_again_at == 10
        assert deadlines.check(10, written_at=0).close is close_codes.CONNECT_TIMEOUT
        deadlines.connected(ours=HeartBeat(), theirs=HeartBeat(), expires_at=NEVER)
        assert deadlines.check(1_000, written_at=0).close is None

    def test_a_connect_that_is_not_decided_in_time_is_no_fault_of_the_client(self) -> None:
        deadlines = Deadlines(self.limits, 0)
        deadlines.connect_received()
        assert deadlines.check(9.9, written_at=0).look_again_at == 10
        assert deadlines.check(10, written_at=0).close is close_codes.UNAVAILABLE

    def test_a_token_ends_the_connection_when_it_expires(self) -> None:
        deadlines = self.connected(HeartBeat(), HeartBeat(), expires_at=50)
        assert deadlines.check(49, written_at=0).look_again_at == 50
        assert deadlines.check(50, written_at=0).close is close_codes.TOKEN_EXPIRED

    def test_a_client_that_promised_heart_beats_and_is_silent_is_given_up(self) -> None:
        deadlines = self.connected(HeartBeat(10_000, 20_000), HeartBeat(5_000, 0))
        assert deadlines.expects_heart_beats
        assert deadlines.check(39, written_at=0).close is None
        deadlines.received_at = 30
        assert deadlines.check(69, written_at=0).close is None
        assert deadlines.check(70, written_at=0).close is close_codes.NO_HEART_BEAT

    def test_a_heart_beat_is_sent_in_time_unless_something_was_written(self) -> None:
        deadlines = self.connected(HeartBeat(10_000, 20_000), HeartBeat(0, 15_000))
        assert not deadlines.expects_heart_beats
        assert not deadlines.check(11, written_at=0).send_heart_beat
        verdict = deadlines.check(12.5, written_at=0)
        assert verdict.send_heart_beat
        assert verdict.look_again_at < 12.5 + 15
        assert not deadlines.check(20, written_at=12.5).send_heart_beat

    def test_a_heart_beat_is_due_after_its_part_of_the_interval_and_not_before(self) -> None:
        deadlines = self.connected(HeartBeat(10_000, 0), HeartBeat(0, 0))
        assert deadlines.check(1_000, written_at=0).look_again_at == NEVER, "the client wants none"
        deadlines = self.connected(HeartBeat(10_000, 0), HeartBeat(0, 5_000))
        due = 10 * SEND_EARLY
        assert not deadlines.check(due - 0.001, written_at=0).send_heart_beat
        assert deadlines.check(due, written_at=0).send_heart_beat

    def test_without_heart_beats_on_either_side_nothing_is_due(self) -> None:
        for ours, theirs in ((HeartBeat(0, 0), HeartBeat(1_000, 1_000)), (HeartBeat(1_000, 1_000), HeartBeat(0, 0))):
            verdict = self.connected(ours, theirs).check(1e9, written_at=0)
            assert (verdict.close, verdict.send_heart_beat) == (None, False)


class TestProgress:
    def test_only_what_the_kernel_has_counts(self) -> None:
        progress = Progress()
        progress.wrote(StreamId(1, 1), 100)
        progress.accept(99)
        assert progress.taken == StreamId(0, 0)
        progress.accept(100)
        assert progress.taken == StreamId(1, 1)

    def test_it_moves_even_if_bytes_always_wait(self) -> None:
        progress = Progress()
        for n in range(1, 50):
            progress.wrote(StreamId(1, n), 100 * n)
            progress.accept(100 * n - 50)
        assert progress.taken.seq > 40
        assert progress.taken.seq < 49

    def test_the_same_entry_is_noted_once(self) -> None:
        progress = Progress()
        assert progress.wrote(StreamId(1, 1), 100)
        assert not progress.wrote(StreamId(1, 1), 200)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize(("octet", "opcode"), [(b"a", Opcode.TEXT), (b"\xff", Opcode.BINARY)])
def test_data_frames_are_those_of_the_websockets_library(size: int, octet: bytes, opcode: Opcode) -> None:
    data = octet * size
    expected = opcode if size else Opcode.TEXT
    assert encode_message(data) == WebSocketFrame(expected, data).serialize(mask=False)


def test_text_that_is_not_ascii_stays_text() -> None:
    assert encode_message("é".encode())[0] == 0x80 | Opcode.TEXT


class TestCloses:
    def test_codes_and_names_are_unique_and_reasons_fit_a_close_frame(self) -> None:
        assert len(close_codes.ALL) > 15
        assert len({close.code for close in close_codes.ALL}) == len(close_codes.ALL)
        assert len({close.name for close in close_codes.ALL}) == len(close_codes.ALL)
        assert all(len(close.reason.encode()) <= close_codes.MAX_REASON_BYTES for close in close_codes.ALL)

    def test_codes_are_the_standards_or_in_our_two_ranges(self) -> None:
        assert all(1000 <= close.code <= 1014 or 4000 <= close.code <= 4999 for close in close_codes.ALL)


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
