"""What a session needs of its socket, and what is asked of a session by whoever works for it."""

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
        """Why it closed, as in `close_codes`; empty while it is open."""

    def send(self, data: bytes) -> None:
        """Write bytes as one WebSocket message."""

    def send_message(self, head: bytes, tail: bytes) -> None:
        """Do the same for a MESSAGE, which counts in the outbox's bounds; `head` is UTF-8."""

    def close(self, close: Close) -> None:
        """Write what waits, then close."""

    def hold_input(self) -> None:
        """Read nothing more until `release_input`."""

    def release_input(self) -> None:
        """Undo one `hold_input`."""

    def sample_accepted(self) -> int:
        """Return how many bytes of `outbox.written_bytes` the kernel has certainly taken."""

    def mark_authenticated(self) -> None:
        """Be evicted for nobody from now on: the client has proved who it is."""

    def wake_at(self, due: float) -> None:
        """Have deadlines checked at this time, seconds of the event loop's clock."""


class Requester(Protocol):
    """Who asked for something, and hears when it cannot be had (`Client`)."""

    sid: str

    def call_ended(self) -> None:
        """Go on: a SUBSCRIBE, UNSUBSCRIBE or NACK is done, whatever came of it."""

    def fail(self, close: Close, detail: str, receipt: str | None = None) -> None:
        """Say why in an ERROR frame, then close."""
