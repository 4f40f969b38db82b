"""What waits for one client's socket."""

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.outbox import Outbox


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
        assert not outbox.check_stall(0, 1_000)
        assert not outbox.check_stall(9, 1_000)
        assert not outbox.check_stall(9.5, 999), "it took a byte"
        assert not outbox.check_stall(19, 999)
        assert outbox.check_stall(19.5, 999)
        outbox.paused = False
        assert not outbox.check_stall(20, 999)
