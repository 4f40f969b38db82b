"""Which messages of one subscription its client refused, for producers who ask later. No I/O."""

from typing import Final

from pushcluster_contract.ids import ZERO_ID, StreamId

MAX_RECENT_REFUSALS: Final = 100
"""How many are remembered. The one that was refused first is forgotten first."""


class RecentRefusals:
    """The messages that the client refused last."""

    __slots__ = ("_ids", "_known_after")

    def __init__(self) -> None:
        self._ids: dict[StreamId, None] = {}
        self._known_after: StreamId = ZERO_ID

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, message_id: StreamId) -> None:
        """Note a message that the client refused."""
        self._ids[message_id] = None
        if len(self._ids) > MAX_RECENT_REFUSALS:
            forgotten = next(iter(self._ids))
            del self._ids[forgotten]
            self._known_after = max(self._known_after, forgotten)

    def was_refused(self, message_id: StreamId) -> bool | None:
        """Return whether the client refused this message. None: that is forgotten."""
        if message_id in self._ids:
            return True
        return False if message_id > self._known_after else None
