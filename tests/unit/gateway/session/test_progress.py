"""How far a cursor may go: to what the kernel has taken."""

import pytest

from pushcluster_contract.ids import StreamId
from pushcluster_gateway.session.progress import Progress


class TestProgress:
    def test_only_what_the_kernel_has_counts(self) -> None:
        progress = Progress()
        progress.wrote(StreamId(1, 1), 100)
        progress.accept(99)
        assert progress.accepted == StreamId(0, 0)
        progress.accept(100)
        assert progress.accepted == StreamId(1, 1)

    def test_it_moves_even_if_bytes_always_wait(self) -> None:
        progress = Progress()
        for n in range(1, 50):
            progress.wrote(StreamId(1, n), 100 * n)
            progress.accept(100 * n - 50)
        assert progress.accepted.seq > 40
        assert progress.accepted.seq < 49

    def test_the_same_entry_is_noted_once(self) -> None:
        progress = Progress()
        assert [progress.wrote(StreamId(1, seq), 100 * seq) for seq in (1, 1, 2)] == [True, False, True]

    @pytest.mark.parametrize(
        ("steps", "taken"),
        [
            ([(0, 0)], 0),
            ([(1, 100)], 1),
            ([(1, 0), (2, 99)], 0),
            ([(1, 0), (2, 100)], 1),
            ([(1, 0), (2, 199)], 1),
            ([(1, 0), (2, 200)], 2),
            ([(1, 0), (2, 200), (3, 250)], 2),
            ([(1, 50), (2, 150), (3, 200)], 2),
        ],
    )
    def test_it_is_at_the_newest_mark_that_the_kernel_has_reached_and_never_goes_back(
        self, steps: list[tuple[int, int]], taken: int
    ) -> None:
        """A step: up to which entry was written, of 100 bytes each, and how many bytes the kernel took until then."""
        progress = Progress()
        for seq, accepted in steps:
            if seq:
                progress.wrote(StreamId(1, seq), 100 * seq)
            progress.accept(accepted)
        assert progress.accepted.seq == taken
