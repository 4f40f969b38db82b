"""How far a cursor may go: to what the kernel has taken."""

from pushcluster_contract.ids import StreamId
from pushcluster_gateway.session.progress import Progress


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

    def test_the_same_entry_is_no_news(self) -> None:
        progress = Progress()
        assert progress.wrote(StreamId(1, 1), 100)
        assert not progress.wrote(StreamId(1, 1), 200)
