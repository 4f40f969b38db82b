"""What a connection needs of whoever speaks over it."""

from typing import Protocol

from pushcluster_gateway.close_codes import Close


class SocketHandler(Protocol):
    """What speaks over a socket. Called on the event loop, never again after `lost`."""

    def received(self, data: bytes | bytearray) -> None:
        """Take the bytes of a text or binary message, or a piece of one."""

    def outbox_drained(self) -> None:
        """Go on: the socket has taken what waited."""

    def refuse(self, close: Close) -> None:
        """Say why, then close: the socket found the reason."""

    def closing(self) -> None:
        """Write nothing more: the socket has begun to close, so nothing that is written from now on arrives."""

    def lost(self) -> None:
        """End: the socket is gone."""

    def check_deadlines(self, now: float) -> float:
        """Do what is due, and return when to ask again (seconds of the loop's clock)."""

    @property
    def wants_pings(self) -> bool:
        """Whether nothing else shows that the client is alive."""
