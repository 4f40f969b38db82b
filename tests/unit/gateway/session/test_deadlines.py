"""When a client must have said something, and when the gateway must."""

from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.deadlines import NEVER, SEND_EARLY, Deadlines
from pushcluster_gateway.stomp.frames import HeartBeat


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
        deadlines.connect_came()
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
