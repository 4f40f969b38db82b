"""What waits for one client's socket: joined into one write a loop tick, bounded in bytes and messages.

MESSAGE frames are only added while there is room; RECEIPT, ERROR and heart-beats always are, and bounded by not
reading from a client that makes too many of them.
"""

from pushcluster_gateway.limits import Limits


class Outbox:
    """The outgoing side of one connection. The shell reports what its transport says."""

    __slots__ = (
        "_chunks",
        "_limits",
        "_messages",
        "_stalled_at_bytes",
        "_stalled_since",
        "end_offset",
        "paused",
        "written_bytes",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._messages = 0
        self._stalled_since: float | None = None
        self._stalled_at_bytes = 0
        self.paused = False
        """The transport holds as much as it should."""
        self.written_bytes = 0
        """Handed to the transport since the connection began."""
        self.end_offset = 0
        """`written_bytes` once everything that waits now is handed over."""

    @property
    def free_bytes(self) -> int:
        """What MESSAGE frames may still be added; 0 when full. The last one may be larger than the room."""
        limits = self._limits
        if self.paused or self._messages >= limits.max_outbox_messages:
            return 0
        room = limits.max_outbox_bytes - self.end_offset + self.written_bytes
        return room if room > 0 else 0  # noqa: FURB136 - `max` would cost as much as all the rest, for every message

    @property
    def refuses_input(self) -> bool:
        """Whether nothing more should be read from the client, because it does not take the answers."""
        pending_bytes = self.end_offset - self.written_bytes
        return pending_bytes >= self._limits.max_outbox_bytes + self._limits.max_control_bytes

    def add(self, data: bytes) -> bool:
        """Add encoded bytes; True when they are the first ones, so a flush has to be planned."""
        chunks = self._chunks
        chunks.append(data)
        self.end_offset += len(data)
        return len(chunks) == 1

    def add_message(self, data: bytes) -> bool:
        """Add an encoded MESSAGE; True when a flush has to be planned."""
        self._messages += 1
        chunks = self._chunks
        chunks.append(data)
        self.end_offset += len(data)
        return len(chunks) == 1

    def take(self) -> bytes:
        """Return everything that waits as one write, or nothing while the transport is paused."""
        if self.paused or not self._chunks:
            return b""
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self.written_bytes = self.end_offset
        self._messages = 0
        return data

    def discard(self) -> None:
        """Forget what waits: the connection is gone."""
        self._chunks.clear()
        self.end_offset = self.written_bytes
        self._messages = 0

    def stalled(self, now: float, transport_bytes: int) -> bool:
        """Tell whether the socket has taken nothing for too long; `transport_bytes` is what the transport holds."""
        if not self.paused:
            self._stalled_since = None
            return False
        if self._stalled_since is None or transport_bytes < self._stalled_at_bytes:
            self._stalled_since = now
            self._stalled_at_bytes = transport_bytes
        return now - self._stalled_since >= self._limits.slow_consumer_s
