"""What a connection needs from the handler of its messages."""

from typing import Protocol

from pushcluster_gateway.close_codes import Close


class SocketHandler(Protocol):
    """Handles what a socket receives. It is called on the event loop, and never again after `lost`."""

    def received(self, data: bytes | bytearray) -> None:
        """Take the bytes of a text or binary message, or of a fragment of one."""

    def outbox_drained(self) -> None:
        """Continue to send: the socket has taken what waited."""

    def refuse(self, close: Close) -> None:
        """Send the reason, then close. The socket found the reason."""

    def closing(self) -> None:
        """Stop writing: the socket has begun to close, so nothing more would arrive."""

    def lost(self) -> None:
        """End the session: the socket is gone."""

    def check_deadlines(self, now: float) -> float:
        """Do what is due, and return when to check again, in seconds of the event loop's clock."""

    @property
    def wants_pings(self) -> bool:
        """Whether the connection has to send pings because nothing else shows that the client is alive."""
