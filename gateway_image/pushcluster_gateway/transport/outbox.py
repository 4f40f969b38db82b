"""What waits for one client's socket: joined into one write in each loop tick, bounded in bytes and messages.

Callers add MESSAGE frames only while `free_bytes` is not 0: up to `max_outbox_bytes` and `max_outbox_messages` of
`limits`, and up to the outbox's share of what all outboxes may hold together. What the transport holds counts too.
Beyond that nothing is queued and nothing is lost: `session/delivery.py` pauses the subscription, and it rereads the log
once the outbox has space. If the socket takes nothing for `slow_consumer_s`, the client is closed with 4001.

RECEIPT, ERROR and heart-beats are always added. They are bounded because the gateway stops reading from a client that
causes more than `max_control_bytes` of them (`refuses_input`).
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.outbox_budget import OutboxBudget


class Outbox:
    """The outgoing side of one connection. The connection reports the state of its transport."""

    __slots__ = (
        "_budget",
        "_chunks",
        "_limits",
        "_messages",
        "_stalled_at_bytes",
        "_transport_bytes",
        "end_offset",
        "paused",
        "stalled_since",
        "written_bytes",
    )

    def __init__(self, limits: Limits, budget: OutboxBudget | None = None) -> None:
        """`budget` is shared by all outboxes of the process; None: this one is alone."""
        self._limits = limits
        self._budget = budget or OutboxBudget(limits.max_all_outboxes_bytes)
        self._chunks: list[bytes] = []
        self._messages = 0
        self._transport_bytes = 0
        """What the transport held when it was last asked. The kernel may have taken some of it since."""
        self.stalled_since: float | None = None
        """Since when the socket has taken nothing, as far as `check_stall` knows; None while it takes everything."""
        self._stalled_at_bytes = 0
        self.paused = False
        """Whether the transport holds bytes that the kernel has not taken (asyncio's `pause_writing`)."""
        self.written_bytes = 0
        """Bytes passed to the transport since the connection began."""
        self.end_offset = 0
        """The value of `written_bytes` once everything that waits now has been passed on."""

    @property
    def held_bytes(self) -> int:
        """Bytes that wait here and in the transport."""
        return self.end_offset - self.written_bytes + self._transport_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes of MESSAGE frames that may still be added; 0 when full. The last frame may be larger than that."""
        limits, budget = self._limits, self._budget
        if self._messages >= limits.max_outbox_messages:
            return 0
        held = self.end_offset - self.written_bytes + self._transport_bytes
        free = limits.max_outbox_bytes - held
        if held:
            share = budget.free_bytes - budget.kept_bytes - held
        else:
            share = budget.free_bytes
            if share <= 0:
                budget.wanted = True
        # `min` and `max` would cost as much as all the rest, for every message.
        if share < free:  # noqa: PLR1730
            free = share
        return free if free > 0 else 0  # noqa: FURB136

    @property
    def refuses_input(self) -> bool:
        """Whether to stop reading from the client, because it does not take the answers."""
        return self.held_bytes >= self._limits.max_outbox_bytes + self._limits.max_control_bytes

    def add(self, data: bytes) -> bool:
        """Add encoded bytes. Return True when they are the first ones, so that a flush has to be planned."""
        chunks = self._chunks
        chunks.append(data)
        size = len(data)
        self.end_offset += size
        self._budget.free_bytes -= size
        return len(chunks) == 1

    def add_message(self, data: bytes) -> bool:
        """Add an encoded MESSAGE. Return True when a flush has to be planned."""
        self._messages += 1
        chunks = self._chunks
        chunks.append(data)
        size = len(data)
        self.end_offset += size
        self._budget.free_bytes -= size
        return len(chunks) == 1

    def take(self) -> bytes:
        """Return everything that waits as one write, or empty bytes while the transport is full."""
        if self.paused or not self._chunks:
            return b""
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self._budget.free_bytes += len(data)
        self.written_bytes = self.end_offset
        self._messages = 0
        return data

    def note_transport(self, held_bytes: int) -> None:
        """Note how many bytes the transport holds now."""
        self._budget.free_bytes += self._transport_bytes - held_bytes
        self._transport_bytes = held_bytes

    def discard(self) -> None:
        """Drop what waits: the connection is gone, and its transport with it."""
        self._chunks.clear()
        self._budget.free_bytes += self.held_bytes
        self._transport_bytes = 0
        self.end_offset = self.written_bytes
        self._messages = 0

    def check_stall(self, now: float, transport_bytes: int) -> bool:
        """Return whether the socket has taken nothing for too long. `transport_bytes` is what the transport holds."""
        self.note_transport(transport_bytes)
        if not self.paused:
            self.stalled_since = None
            return False
        if self.stalled_since is None or transport_bytes < self._stalled_at_bytes:
            self.stalled_since = now
            self._stalled_at_bytes = transport_bytes
        return now - self.stalled_since >= self._limits.slow_consumer_s


class HasOutbox(Protocol):
    """A connection, as `plan_relief` sees it."""

    outbox: Outbox

    @property
    def closing(self) -> bool:
        """Whether the connection only waits for its end."""


C = TypeVar("C", bound=HasOutbox)


def plan_relief(paused: Iterable[C], missing_bytes: int) -> list[C]:
    """Return the connections to end so that their outboxes give back `missing_bytes`.

    Those that are closing already come first, then those that have stalled longest.
    """
    plan: list[C] = []
    for connection in sorted(paused, key=lambda each: (not each.closing, each.outbox.stalled_since or 0.0)):
        if missing_bytes <= 0:
            break
        missing_bytes -= connection.outbox.held_bytes
        plan.append(connection)
    return plan
