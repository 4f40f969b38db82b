"""What all outboxes of the process may hold together. No I/O, no clock.

Each outbox may hold as much as is still free, and no more: the scheme of "Dynamic queue length thresholds for
shared-memory packet switches" (Choudhury and Hahne, 1998). One slow client gets half of the budget at most, n of them
1/(n+1) each. So the largest outboxes pause first, nobody has to look for them, and each decision takes constant time.

The last quarter is kept for outboxes that hold nothing: clients that read what they get do not feel the others. If even
that is used up, everybody pauses, and the server closes the clients that have taken nothing for longest.
"""

from typing import Final

KEPT_FREE: Final = 0.25
"""Part of the budget that only outboxes which hold nothing may use."""


class OutboxBudget:
    """The shared count. Outboxes write `free_bytes` directly, because that happens with every message."""

    __slots__ = ("free_bytes", "kept_bytes", "max_bytes", "wanted")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.kept_bytes = int(max_bytes * KEPT_FREE)
        """Bytes for outboxes that hold nothing."""
        self.free_bytes = max_bytes
        """Negative when control frames, which always pass, and the last frame of each outbox exceed the budget."""
        self.wanted = False
        """Whether an outbox that holds nothing was refused. It has no write of its own that would wake it."""

    @property
    def held_bytes(self) -> int:
        """Bytes that all outboxes and transports hold."""
        return self.max_bytes - self.free_bytes

    @property
    def missing_bytes(self) -> int:
        """Bytes to free before the kept part is whole again, if the budget is used up; else 0."""
        return self.kept_bytes - self.free_bytes if self.free_bytes <= 0 else 0
