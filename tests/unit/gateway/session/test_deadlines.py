"""When a client must have said something, and when the gateway must."""

from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.deadlines import MAX_TIMER_MS, NEVER, SEND_EARLY, Deadlines
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

    def test_after_a_heart_beat_the_next_one_is_due_after_its_part_of_the_interval(self) -> None:
        deadlines = self.connected(HeartBeat(10_000, 0), HeartBeat(0, 5_000))
        verdict = deadlines.check(20, written_at=0)
        assert (verdict.send_heart_beat, verdict.look_again_at) == (True, 20 + 10 * SEND_EARLY)

    def test_each_side_beats_as_it_can_and_no_more_often_than_the_other_wants(self) -> None:
        """Both numbers of both sides differ, so that none can stand for another."""
        deadlines = self.connected(HeartBeat(can_ms=3_000, wants_ms=40_000), HeartBeat(can_ms=5_000, wants_ms=7_000))
        assert deadlines.check(0, written_at=0).look_again_at == 7 * SEND_EARLY
        assert deadlines.check(79.9, written_at=79.9).close is None
        assert deadlines.check(80, written_at=80).close is close_codes.NO_HEART_BEAT

    def test_heart_beats_of_less_than_a_second_are_expected_too(self) -> None:
        assert self.connected(HeartBeat(wants_ms=1), HeartBeat(can_ms=1)).expects_heart_beats

    def test_the_nearest_deadline_is_when_to_look_again(self) -> None:
        ours, theirs = HeartBeat(10_000, 10_000), HeartBeat(10_000, 10_000)
        assert self.connected(ours, theirs, expires_at=3).check(0, written_at=0).look_again_at == 3
        assert self.connected(ours, theirs, expires_at=30).check(0, written_at=0).look_again_at == 10 * SEND_EARLY
        assert self.connected(ours, theirs, expires_at=30).check(0, written_at=15).look_again_at == 20

    def test_a_connection_that_ends_gets_no_heart_beat_and_is_not_looked_at_again(self) -> None:
        deadlines = self.connected(HeartBeat(1_000, 0), HeartBeat(0, 1_000), expires_at=5)
        verdict = deadlines.check(5, written_at=0)
        assert (verdict.close, verdict.send_heart_beat, verdict.look_again_at) == (
            close_codes.TOKEN_EXPIRED,
            False,
            NEVER,
        )

    def test_the_time_for_connect_begins_when_the_socket_opened(self) -> None:
        deadlines = Deadlines(self.limits, 100)
        assert deadlines.received_at == 100
        assert deadlines.check(109, written_at=0).look_again_at == 110
        assert not deadlines.check(109, written_at=0).send_heart_beat, "none was agreed on yet"

    def test_what_is_left_of_a_token_is_told_in_ms_and_never_below_none(self) -> None:
        deadlines = self.connected(HeartBeat(), HeartBeat(), expires_at=50)
        assert [deadlines.expires_in_ms(now) for now in (0, 48.5, 49.75, 50, 60)] == [50_000, 1_500, 250, 0, 0]
        assert self.connected(HeartBeat(), HeartBeat()).expires_in_ms(0) is None

    def test_what_is_left_is_not_told_when_no_browser_can_wait_so_long(self) -> None:
        assert MAX_TIMER_MS == 2**31 - 1, "the longest delay of a browser's setTimeout; a longer one fires at once"
        most_s = MAX_TIMER_MS / 1_000
        assert self.connected(HeartBeat(), HeartBeat(), expires_at=most_s).expires_in_ms(0) == MAX_TIMER_MS
        assert self.connected(HeartBeat(), HeartBeat(), expires_at=most_s + 0.001).expires_in_ms(0) is None
        year_9999 = self.connected(HeartBeat(), HeartBeat(), expires_at=251_606_362_765)
        assert year_9999.expires_in_ms(0) is None
        assert year_9999.check(251_606_362_765, written_at=0).close is close_codes.TOKEN_EXPIRED

    def test_without_heart_beats_on_either_side_nothing_is_due(self) -> None:
        for ours, theirs in ((HeartBeat(0, 0), HeartBeat(1_000, 1_000)), (HeartBeat(1_000, 1_000), HeartBeat(0, 0))):
            verdict = self.connected(ours, theirs).check(1e9, written_at=0)
            assert (verdict.close, verdict.send_heart_beat) == (None, False)
