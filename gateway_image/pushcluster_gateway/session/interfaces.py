"""What a session needs from its socket, and what tasks need from a session."""

from collections.abc import Callable
from typing import Protocol

from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.transport.outbox import Outbox


class ClientSocket(Protocol):
    """One client's socket."""

    outbox: Outbox
    written_at: float
    """When data was last written, seconds of the event loop's clock."""

    @property
    def cause_name(self) -> str:
        """The name of the close, as in `close_codes`; empty while the socket is open."""

    def send(self, data: bytes) -> None:
        """Write bytes as one WebSocket message."""

    def send_message(self, head: bytes, tail: bytes) -> None:
        """Do the same for a MESSAGE, which counts in the bounds of the outbox. `head` is UTF-8."""

    def when_written(self, on_written: Callable[[], None]) -> None:
        """Call back once all that waits has been written. Nobody is called if the socket ends first."""

    def close(self, close: Close) -> None:
        """Write what waits, then close."""

    def hold_input(self) -> None:
        """Stop reading until `release_input`."""

    def release_input(self) -> None:
        """Undo one `hold_input`."""

    def sample_accepted(self) -> int:
        """Return how many bytes of `outbox.written_bytes` the client's TCP has certainly acknowledged."""

    def mark_authenticated(self) -> None:
        """Protect the socket from eviction from now on: its client is authenticated."""

    def wake_at(self, due: float) -> None:
        """Have the deadlines checked at this time, in seconds of the event loop's clock."""


class Requester(Protocol):
    """The client for which a task runs (`Client`). It learns when the task fails."""

    sid: str

    def call_ended(self) -> None:
        """Note that a SUBSCRIBE, UNSUBSCRIBE or NACK is finished, with any result."""

    def fail(self, close: Close, detail: str, receipt: str | None = None) -> None:
        """Send the reason in an ERROR frame, then close."""
