"""What waits for one client's socket, and what waits for all of them together."""

from dataclasses import dataclass
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.outbox import Outbox, plan_relief
from pushcluster_gateway.transport.outbox_budget import KEPT_FREE, OutboxBudget

LARGEST_FRAME: Final = 400


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

    def test_what_the_transport_holds_counts_as_what_waits(self) -> None:
        outbox = Outbox(self.limits)
        outbox.note_transport(60)
        assert (outbox.free_bytes, outbox.held_bytes) == (40, 60)
        outbox.add_message(b"x" * 39)
        assert outbox.free_bytes == 1
        outbox.note_transport(61)
        assert outbox.free_bytes == 0
        outbox.note_transport(0)
        assert outbox.free_bytes == 61

    def test_while_the_transport_holds_something_nothing_is_taken(self) -> None:
        outbox = Outbox(self.limits)
        outbox.paused = True
        outbox.add(b"x")
        assert outbox.take() == b""
        outbox.paused = False
        assert outbox.take() == b"x"

    def test_a_client_that_does_not_take_its_receipts_is_not_read_any_more(self) -> None:
        outbox = Outbox(self.limits)
        outbox.add(b"x" * 100)
        outbox.note_transport(49)
        assert not outbox.refuses_input
        outbox.add(b"x")
        assert outbox.refuses_input

    def test_a_socket_is_stalled_when_it_takes_nothing_for_too_long(self) -> None:
        outbox = Outbox(self.limits)
        outbox.paused = True
        assert not outbox.check_stall(0, 1_000)
        assert not outbox.check_stall(9, 1_000)
        assert not outbox.check_stall(9.5, 999), "it took a byte"
        assert outbox.held_bytes == 999
        assert not outbox.check_stall(19, 999)
        assert outbox.check_stall(19.5, 999)
        outbox.paused = False
        assert not outbox.check_stall(20, 999)


class TestBudget:
    limits = Limits(max_outbox_bytes=1_000, max_outbox_messages=1_000)

    def outboxes(self, count: int, max_bytes: int) -> tuple[OutboxBudget, list[Outbox]]:
        budget = OutboxBudget(max_bytes)
        return budget, [Outbox(self.limits, budget) for _ in range(count)]

    def fill(self, outbox: Outbox, size: int) -> int:
        """Add messages of this size until the outbox is full, and return how many bytes it holds."""
        while outbox.free_bytes:
            outbox.add_message(b"x" * size)
        return outbox.held_bytes

    def test_one_slow_client_has_half_of_what_is_shared(self) -> None:
        _, (slow, *_) = self.outboxes(3, 1_000)
        assert self.fill(slow, 1) == 1_000 * (1 - KEPT_FREE) / 2

    def test_the_largest_pause_first_and_the_small_ones_go_on(self) -> None:
        budget, (large, small, _) = self.outboxes(3, 1_000)
        large.note_transport(300)
        small.note_transport(50)
        assert budget.held_bytes == 350
        assert (large.free_bytes, small.free_bytes) == (100, 350)
        large.note_transport(401)
        assert (large.free_bytes, small.free_bytes) == (0, 249)

    def test_the_last_part_is_for_outboxes_that_hold_nothing(self) -> None:
        budget, (a, b, fast) = self.outboxes(3, 1_000)
        a.note_transport(700)
        b.note_transport(50)
        assert (a.free_bytes, b.free_bytes, fast.free_bytes) == (0, 0, 250)
        fast.add_message(b"x" * 10)
        assert fast.free_bytes == 0, "it holds something until its write"
        assert fast.take()
        assert fast.free_bytes == budget.free_bytes == 250

    def test_when_even_that_is_used_up_everybody_pauses_and_control_frames_pass(self) -> None:
        budget, (slow, fast) = self.outboxes(2, 1_000)
        slow.note_transport(999)
        assert (fast.free_bytes, budget.wanted, budget.missing_bytes) == (1, False, 0)
        slow.note_transport(1_000)
        assert (fast.free_bytes, budget.wanted, budget.missing_bytes) == (0, True, 250)
        assert fast.add(b"RECEIPT")
        assert budget.missing_bytes == 257
        assert fast.take() == b"RECEIPT"
        slow.discard()
        assert (fast.free_bytes, budget.held_bytes, budget.missing_bytes) == (1_000, 0, 0)

    def test_who_has_taken_nothing_for_longest_gives_way_and_no_more_than_needed(self) -> None:
        @dataclass
        class Connection:
            outbox: Outbox
            closing: bool = False

        _, outboxes = self.outboxes(3, 1_000)
        for outbox, size, since in zip(outboxes, (400, 300, 300), (2.0, 1.0, 3.0), strict=True):
            outbox.paused = True
            outbox.check_stall(since, size)
        connections = [Connection(outbox) for outbox in outboxes]
        assert plan_relief(connections, 0) == []
        assert plan_relief(connections, 300) == [connections[1]]
        assert plan_relief(connections, 301) == [connections[1], connections[0]]
        assert plan_relief(connections, 5_000) == [connections[1], connections[0], connections[2]]
        connections[2].closing = True
        assert plan_relief(connections, 301) == [connections[2], connections[1]]

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 19),
                st.sampled_from(["add", "take", "takes all", "some", "gone"]),
                st.integers(1, LARGEST_FRAME),
            ),
            max_size=400,
        )
    )
    def test_the_sum_exceeds_the_budget_by_no_more_than_one_frame(self, steps: list[tuple[int, str, int]]) -> None:
        budget, outboxes = self.outboxes(20, 3_000)
        for number, step, size in steps:
            outbox = outboxes[number]
            if step == "add":
                if outbox.free_bytes:
                    outbox.add_message(b"x" * size)
            elif step == "take":  # and the kernel takes nothing of it
                outbox.note_transport(outbox._transport_bytes + len(outbox.take()))
            elif step == "takes all":
                outbox.take()
                outbox.note_transport(0)
            elif step == "some":
                outbox.note_transport(max(0, outbox._transport_bytes - size))
            else:
                outbox.discard()
            assert budget.held_bytes == sum(each.held_bytes for each in outboxes) <= 3_000 + LARGEST_FRAME
