"""The messages of one subscription that its client has not acknowledged yet (ack modes `client*`)."""

from enum import Enum, auto

from pushcluster_contract.ids import ZERO_ID, StreamId


class _State(Enum):
    OUTSTANDING = auto()
    REJECTING = auto()
    """After a NACK, until `push.refused` has the message."""
    SETTLED = auto()


class AckWindow:
    """Written entries in their order. `cursor` is the newest entry up to which all are settled."""

    __slots__ = ("_entries", "_max_entries", "_vanished", "cursor")

    def __init__(self, max_entries: int) -> None:
        self.cursor: StreamId = ZERO_ID
        self._max_entries = max_entries
        self._entries: dict[StreamId, _State] = {}
        self._vanished: frozenset[StreamId] = frozenset()
        """Entries that were written, and that the log has lost since."""

    def reset(self, cursor: StreamId) -> None:
        """Start over after `cursor`."""
        self.cursor = cursor
        self._entries.clear()

    def truncate(self, newest: StreamId) -> None:
        """Forget all entries after `newest`, because the log has gone back to it. The others stay."""
        self.cursor = min(self.cursor, newest)
        self._vanished = frozenset(each for each in self._entries if each > newest)
        self._entries = {each: state for each, state in self._entries.items() if each <= newest}

    @property
    def full(self) -> bool:
        """Whether nothing more may be written until the client acknowledges."""
        return len(self._entries) >= self._max_entries

    @property
    def free(self) -> int:
        """How many more entries may be written until the client acknowledges."""
        return self._max_entries - len(self._entries)

    def add(self, message_id: StreamId) -> None:
        """Note an entry that was written."""
        self._entries[message_id] = _State.OUTSTANDING

    def skip(self, message_id: StreamId) -> None:
        """Note an entry that will not be written, so nobody has to acknowledge it."""
        if self._entries:
            self._entries[message_id] = _State.SETTLED
        else:
            self.cursor = message_id

    def awaits(self, message_id: StreamId) -> bool:
        """Return whether this entry was written and is neither acknowledged nor refused."""
        return self._entries.get(message_id) is _State.OUTSTANDING

    def holds(self, message_id: StreamId) -> bool:
        """Return whether this entry was written and is not settled yet."""
        return self._entries.get(message_id, _State.SETTLED) is not _State.SETTLED

    def covered(self, message_id: StreamId, *, cumulative: bool) -> list[StreamId]:
        """Return the outstanding entries that an ACK or NACK of `message_id` covers.

        One of an entry that was never written covers nothing: it may belong to another destination.
        """
        if not cumulative:
            return [message_id] if self.awaits(message_id) else []
        if message_id not in self._entries and message_id not in self._vanished:
            return []
        covered = []
        for each, state in self._entries.items():
            if each > message_id:
                break
            if state is _State.OUTSTANDING:
                covered.append(each)
        return covered

    def reject(self, message_ids: list[StreamId]) -> None:
        """Mark entries as refused by the client. They stay in the window until they are settled."""
        for each in message_ids:
            self._entries[each] = _State.REJECTING

    def settle(self, message_ids: list[StreamId]) -> None:
        """Mark entries as settled and move the cursor. Unknown entries are settled already."""
        for each in message_ids:
            if each in self._entries:
                self._entries[each] = _State.SETTLED
        settled = []
        for each, state in self._entries.items():
            if state is not _State.SETTLED:
                break
            settled.append(each)
        for each in settled:
            del self._entries[each]
            self.cursor = each
