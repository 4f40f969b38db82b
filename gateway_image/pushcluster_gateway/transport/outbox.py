"""What waits for one client's socket: joined into one write in each loop tick, bounded in bytes and messages.

Callers add MESSAGE frames only while `free_bytes` is not 0: up to `max_outbox_bytes` and `max_outbox_messages` of
`limits`, and none while the transport is full. Beyond that nothing is queued and nothing is lost: `session/delivery.py`
pauses the subscription, and it rereads the log once the outbox has space. If the socket takes nothing for
`slow_consumer_s`, the client is closed with 4001.

RECEIPT, ERROR and heart-beats are always added. They are bounded because the gateway stops reading from a client that
causes more than `max_control_bytes` of them (`refuses_input`).
"""

from pushcluster_gateway.limits import Limits


class Outbox:
    """The outgoing side of one connection. The connection reports the state of its transport."""

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
        """Whether the transport is full (asyncio's `pause_writing`)."""
        self.written_bytes = 0
        """Bytes passed to the transport since the connection began."""
        self.end_offset = 0
        """The value of `written_bytes` once everything that waits now has been passed on."""

    @property
    def free_bytes(self) -> int:
        """Bytes of MESSAGE frames that may still be added; 0 when full. The last frame may be larger than that."""
        limits = self._limits
        if self.paused or self._messages >= limits.max_outbox_messages:
            return 0
        free = limits.max_outbox_bytes - self.end_offset + self.written_bytes
        return free if free > 0 else 0  # noqa: FURB136 - `max` would cost as much as all the rest, for every message

    @property
    def refuses_input(self) -> bool:
        """Whether to stop reading from the client, because it does not take the answers."""
        pending_bytes = self.end_offset - self.written_bytes
        return pending_bytes >= self._limits.max_outbox_bytes + self._limits.max_control_bytes

    def add(self, data: bytes) -> bool:
        """Add encoded bytes. Return True when they are the first ones, so that a flush has to be planned."""
        chunks = self._chunks
        chunks.append(data)
        self.end_offset += len(data)
        return len(chunks) == 1

    def add_message(self, data: bytes) -> bool:
        """Add an encoded MESSAGE. Return True when a flush has to be planned."""
        self._messages += 1
        chunks = self._chunks
        chunks.append(data)
        self.end_offset += len(data)
        return len(chunks) == 1

    def take(self) -> bytes:
        """Return everything that waits as one write, or empty bytes while the transport is full."""
        if self.paused or not self._chunks:
            return b""
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self.written_bytes = self.end_offset
        self._messages = 0
        return data

    def discard(self) -> None:
        """Drop what waits: the connection is gone."""
        self._chunks.clear()
        self.end_offset = self.written_bytes
        self._messages = 0

    def check_stall(self, now: float, transport_bytes: int) -> bool:
        """Return whether the socket has taken nothing for too long. `transport_bytes` is what the transport holds."""
        if not self.paused:
            self._stalled_since = None
            return False
        if self._stalled_since is None or transport_bytes < self._stalled_at_bytes:
            self._stalled_since = now
            self._stalled_at_bytes = transport_bytes
        return now - self._stalled_since >= self._limits.slow_consumer_s
