"""A socket that nobody listens to: what a Client writes is kept, and may be read when a test likes."""

from collections.abc import Callable

from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.outbox import Outbox


class FakeSocket:
    """Implements `ports.Socket`, with the rules of the real one: after `close` nothing is sent."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.outbox = Outbox(limits)
        self.written_at = clock()
        self.sent: list[bytes] = []
        """What was sent, in order, whether taken by the client or not."""
        self.closed: Close | None = None
        self.holds = 0
        self._clock = clock

    @property
    def cause_name(self) -> str:
        return self.closed.name if self.closed is not None else ""

    def send(self, data: bytes) -> None:
        if self.closed is None:
            self.sent.append(data)
            self.outbox.add(data)

    def send_message(self, head: bytes, tail: bytes) -> None:
        if self.closed is None:
            self.sent.append(head + tail)
            self.outbox.add_message(head + tail)

    def when_written(self, on_written: Callable[[], None]) -> None:
        """Nothing that a test follows is written here."""

    def close(self, close: Close) -> None:
        if self.closed is None:
            self.closed = close
            self.holds = 0

    def hold_input(self) -> None:
        if self.closed is None:
            self.holds += 1

    def release_input(self) -> None:
        self.holds = max(0, self.holds - 1)

    def mark_authenticated(self) -> None:
        """Nobody asks for its place."""

    def sample_accepted(self) -> int:
        return self.outbox.written_bytes

    def wake_at(self, due: float) -> None:
        """Whoever drives the client asks for its deadlines when it likes."""

    def take(self) -> None:
        """Have the client read everything that waits for it."""
        if self.outbox.take():
            self.written_at = self._clock()
