"""How far a subscription has got, for its cursor in ack mode `auto`."""

from pushcluster_contract.ids import ZERO_ID, StreamId


class Progress:
    """Finds the entry that the client's TCP has certainly acknowledged, by counting bytes.

    Two marks are enough: the newest write, and an older one that is reached even while bytes always wait.
    """

    __slots__ = ("_latest", "_latest_offset", "_mark", "_mark_offset", "accepted", "flushed")

    def __init__(self) -> None:
        self.accepted: StreamId = ZERO_ID
        """The newest entry that has been acknowledged."""
        self.flushed: tuple[StreamId, StreamId] = (ZERO_ID, ZERO_ID)
        """The cursor and `sent` that were last flushed to the registry."""
        self._latest: StreamId = ZERO_ID
        self._latest_offset = 0
        self._mark: StreamId = ZERO_ID
        self._mark_offset = 0

    def wrote(self, message_id: StreamId, end_offset: int) -> bool:
        """Note that the entry ends at byte `end_offset` of the connection. Return False when that is known already."""
        if message_id == self._latest:
            return False
        self._latest = message_id
        self._latest_offset = end_offset
        return True

    def accept(self, accepted_bytes: int) -> None:
        """Note that this many bytes of the connection have been acknowledged."""
        if accepted_bytes >= self._latest_offset:
            self.accepted = self._latest
        elif accepted_bytes >= self._mark_offset:
            self.accepted = max(self.accepted, self._mark)
            self._mark, self._mark_offset = self._latest, self._latest_offset
