"""The state machine of one subscription: steps 10 to 13 of ARCHITECTURE.md. No I/O, no clock, no randomness.

    REGISTERING ──registered──► CATCHUP ──short page, nothing newer seen──► LIVE
                                  ▲  ▲                                       │
                                  │  └── a hole, no space, resync, walk ─────┘
                                  └── next page

The log in Redis is the truth, and copies are hints. The position moves only forward, entry by entry. Every entry from
the start up to the position was written or skipped, and will never be written again. So the order holds, and nothing
is written twice.

A subscription never starts after the cursor, whatever id its client gave. So a cursor that follows the position, or the
client's ACKs, passes nothing that this session did not get.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from pushcluster_contract.ids import ZERO_ID, StreamId
from pushcluster_contract.limits import LOG_PAGE_BYTES
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.session.acks import AckWindow
from pushcluster_gateway.stomp.frames import AckMode


class Phase(Enum):
    """The phase of a subscription."""

    REGISTERING = auto()
    CATCHUP = auto()
    LIVE = auto()


_LIVE: Final = Phase.LIVE
"""A global name, because every copy reads it: access to a member of an enumeration takes several times as long."""


@dataclass(frozen=True, slots=True)
class LogState:
    """The reply of the SUBSCRIBE script (`lua/subscribe.lua`)."""

    born_ms: int
    newest: StreamId
    cursor: StreamId
    sent: StreamId
    oldest_seq: int
    now_ms: int = 0
    """Redis TIME."""
    held: StreamId | None = None
    """The newest entry in the log that is not newer than the id which the client gave; None without one."""

    def follows(self, given: StreamId) -> bool:
        """Return whether `given` is an id of this log, and the log still has everything after it."""
        if given.ms < self.born_ms or given > self.newest:
            return False
        if given in {self.held, self.newest}:
            return True
        # The entry itself may have left the log, but then it is older than the oldest one, which comes next.
        return self.held is None and given.seq + 1 == self.oldest_seq <= self.newest.seq


class Write(NamedTuple):
    """Write this entry to the client."""

    entry: LogEntry
    redelivered: bool
    recovered: bool | None


class ReadPage(NamedTuple):
    """Read entries after `after`, and pass them to `receive_page` together with this request."""

    after: StreamId
    limit: int
    """The most entries."""
    max_bytes: int
    """The most bytes. One entry is read in any case. The subscriptions of a client share its room (`PageTurns`)."""
    ticket: int
    is_first: bool = False
    """Whether the RECEIPT of SUBSCRIBE waits for this page."""


class LogPage(NamedTuple):
    """The answer to ReadPage."""

    entries: Sequence[LogEntry]
    cut: bool
    """Whether `max_bytes` ended the page. If not, and with fewer entries than `limit`, the log has nothing newer."""


class Ready(NamedTuple):
    """Send the RECEIPT of SUBSCRIBE with this `recovered`: the first page is there."""

    recovered: bool | None


class Gap(NamedTuple):
    """The client has missed all entries between these two sequence numbers."""

    after_seq: int
    before_seq: int


class Expired(NamedTuple):
    """An entry expired before it was written, and its producer wants outcomes."""

    entry: LogEntry


Output = Write | ReadPage | Ready | Gap | Expired


class DeliveryMachine:
    """One subscription. Every input returns what to do about it, in order."""

    __slots__ = (
        "_asked",
        "_born_ms",
        "_client_has",
        "_newest_seen",
        "_newest_when_asked",
        "_outdated",
        "_page_bytes",
        "_page_entries",
        "_ready_sent",
        "_recovered",
        "_redelivered_to",
        "_resume_after",
        "_stale_copies_to",
        "_ticket",
        "ack_mode",
        "phase",
        "position",
        "sent",
        "window",
    )

    def __init__(
        self,
        *,
        ack_mode: AckMode,
        last_message_id: StreamId | None,
        max_unacked: int,
        page_entries: int,
        page_bytes: int = LOG_PAGE_BYTES,
    ) -> None:
        self.phase = Phase.REGISTERING
        self.ack_mode = ack_mode
        self.position: StreamId = ZERO_ID
        """The newest entry that was written or skipped."""
        self.sent: StreamId = ZERO_ID
        """The newest entry that was written."""
        self.window = None if ack_mode is AckMode.AUTO else AckWindow(max_unacked)
        self._resume_after = last_message_id
        self._page_entries = page_entries
        self._page_bytes = page_bytes
        self._born_ms = 0
        self._client_has: StreamId = ZERO_ID
        """The client has everything up to this id, as it says, and the log bears it out."""
        self._newest_seen: StreamId = ZERO_ID
        self._newest_when_asked: StreamId = ZERO_ID
        self._asked = False
        self._outdated = False
        """Whether something was appended that the page under way may lack, although `_newest_seen` cannot tell."""
        self._ticket = 0
        self._redelivered_to: StreamId = ZERO_ID
        self._stale_copies_to: StreamId = ZERO_ID
        """Copies up to this id may belong to a lost log. They are not written; the log is read instead."""
        self._recovered: bool | None = None
        self._ready_sent = False

    # Inputs

    def registered(self, log: LogState) -> list[Output]:
        """Begin to catch up: the registry has this destination, so each later append sends it a copy."""
        self._newest_seen = max(self._newest_seen, log.newest)
        self._redelivered_to = log.sent
        self._stale_copies_to = max(log.newest, log.sent, StreamId(log.now_ms, 0))
        self._born_ms = log.born_ms
        resume = self._resume_after
        if resume is None:
            self.position = log.cursor
        else:
            self._recovered = log.follows(resume)
            if self._recovered:
                self._client_has = resume
                self._redelivered_to = max(log.sent, resume)
            # What the client says is no proof that it got what lies between the cursor and this id.
            self.position = min(resume, log.cursor)
        if self.window is not None:
            self.window.reset(self.position)
        self.phase = Phase.CATCHUP
        return [self._ask()]

    def refreshed(self, log: LogState, asked_at: StreamId, *, resync: bool, free_bytes: int) -> list[Output]:
        """Compare the log with the position, after the registry was written again.

        `asked_at` was the position when that call began. With `resync`, copies may have been lost, so the log is read
        in any case.
        """
        if self.phase is Phase.REGISTERING:
            return []
        # If the position has moved since, this answer is older than what the subscription knows.
        if asked_at == self.position and log.newest < asked_at:
            # The log ends before the position: it was lost, or restored from an older state.
            self._start_over(log.newest)
        elif self._born_ms and self._born_ms < log.born_ms:
            # The log was lost, and a new one has begun.
            self._recovered = False
            if self.position.ms < log.born_ms:
                self._start_over(ZERO_ID)
        self._born_ms = log.born_ms
        self._newest_seen = max(self._newest_seen, log.newest)
        if self.phase is Phase.LIVE and (resync or self._newest_seen > self.position):
            self.phase = Phase.CATCHUP
        if resync:
            self._asked = False  # a page that was read before the registry was written may be outdated
        return self.proceed(free_bytes)

    def receive_page(
        self, asked: ReadPage, entries: Sequence[LogEntry], free_bytes: int, now_ms: int, *, cut: bool = False
    ) -> list[Output]:
        """Take the answer to ReadPage. `cut` is as in LogPage, and `now_ms` is by Redis TIME."""
        if not self._asked or asked.ticket != self._ticket:
            return []
        self._asked = False
        outputs = [] if entries else self._skip_what_is_gone()
        if not self._ready_sent:
            self._ready_sent = True
            if entries and self._is_hole(entries[0]):
                self._recovered = False
            outputs.append(Ready(self._recovered))
        for entry in entries:
            if free_bytes <= 0 or self._window_full:
                break
            if self._is_hole(entry):
                outputs.append(Gap(max(self.position.seq, self._client_has.seq), entry.id.seq))
                self._recovered = False
            free_bytes -= len(entry.body)
            outputs += self._write_or_expire(entry, now_ms)
        else:
            is_last = not cut and len(entries) < asked.limit and not self._outdated
            if is_last and self.position >= self._newest_seen:
                self.phase = Phase.LIVE
        return outputs + self.proceed(free_bytes)

    def accept_next(self, entry: LogEntry, free_bytes: int) -> bool:
        """Accept a copy that only has to be written as it is. Return False when `receive_copy` has to decide.

        This is the fast path of `receive_copy` for the usual case: it runs for every push.
        """
        message_id = entry.id
        if (
            self.phase is not _LIVE
            or message_id.seq != self.position.seq + 1
            or message_id <= self._stale_copies_to
            or message_id <= self.position
            or free_bytes <= 0
            or entry.expires_ms
            or self._recovered is not None
        ):
            return False
        window = self.window
        if window is not None:
            if window.full:
                return False
            window.add(message_id)
        self.position = self.sent = message_id
        return True

    def receive_copy(self, entry: LogEntry, free_bytes: int, now_ms: int) -> list[Output]:
        """Take a copy that arrived over AMQP."""
        if self.phase is Phase.LIVE and entry.id <= self.position:
            return []
        if entry.id <= self._stale_copies_to:
            self.phase = Phase.CATCHUP
            self._outdated = self._asked
            return self.proceed(free_bytes)
        if self.phase is not Phase.LIVE:
            self._newest_seen = max(self._newest_seen, entry.id)
            return []
        if self._is_hole(entry) or free_bytes <= 0 or self._window_full:
            self._newest_seen = entry.id
            self.phase = Phase.CATCHUP
            return self.proceed(free_bytes)
        return self._write_or_expire(entry, now_ms)

    def proceed(self, free_bytes: int) -> list[Output]:
        """Continue to catch up: the outbox or the window of unacknowledged messages may have space again."""
        if self.phase is not Phase.CATCHUP or self._asked or free_bytes <= 0 or self._window_full:
            return []
        return [self._ask()]

    def awaits(self, message_id: StreamId) -> bool:
        """Return whether the client has this message and has neither acknowledged nor refused it."""
        return self.window is not None and self.window.awaits(message_id)

    def covered(self, message_id: StreamId) -> list[StreamId]:
        """Return the messages that an ACK or NACK of `message_id` settles."""
        if self.window is None:
            return []
        return self.window.covered(message_id, cumulative=self.ack_mode is AckMode.CLIENT)

    def reject(self, message_ids: list[StreamId]) -> None:
        """Note that the client refused these messages. `settle` follows when `push.refused` has them."""
        if self.window is not None:
            self.window.reject(message_ids)

    def settle(self, message_ids: list[StreamId], free_bytes: int) -> list[Output]:
        """Note that these messages are settled, and continue."""
        if self.window is not None:
            self.window.settle(message_ids)
        return self.proceed(free_bytes)

    # Facts

    @property
    def waits(self) -> bool:
        """Whether the subscription waits for space in the outbox or for acknowledgements."""
        return self.phase is Phase.CATCHUP and not self._asked

    @property
    def _window_full(self) -> bool:
        return self.window is not None and self.window.full

    # Steps

    def _ask(self) -> ReadPage:
        self._asked, self._outdated = True, False
        self._ticket += 1
        self._newest_when_asked = self._newest_seen
        # What the window does not take would be read again later.
        limit = self._page_entries if self.window is None else min(self._page_entries, self.window.free)
        return ReadPage(self.position, limit, self._page_bytes, self._ticket, not self._ready_sent)

    def _is_hole(self, entry: LogEntry) -> bool:
        """Return whether something before this entry is missing that the client has not got."""
        seq = entry.id.seq
        return seq != self.position.seq + 1 and not self.position.seq < seq <= self._client_has.seq + 1

    def _write_or_expire(self, entry: LogEntry, now_ms: int) -> list[Output]:
        if entry.expires_ms and entry.expires_ms < now_ms:
            self._skip(entry.id)
            return [Expired(entry)] if entry.reply else []
        self.position = self.sent = entry.id
        if self.window is not None:
            self.window.add(entry.id)
        recovered, self._recovered = self._recovered, None
        return [Write(entry, entry.id <= self._redelivered_to, recovered)]

    def _skip_what_is_gone(self) -> list[Output]:
        """Skip entries that existed and are not in the log any more: trimmed, expired, or lost with it."""
        newest, had = self._newest_when_asked, max(self.position, self._client_has)
        if newest > self.position:
            self._skip(newest)
        if newest <= had:
            return []
        self._recovered = False
        return [Gap(had.seq, newest.seq + 1)]

    def _start_over(self, position: StreamId) -> None:
        self._redelivered_to = max(self._redelivered_to, self.position)
        self._stale_copies_to = max(self._stale_copies_to, self.position, self._newest_seen)
        self.position = self._newest_seen = position
        self._client_has = min(self._client_has, position)
        self._recovered = False
        self._asked = False
        if self.window is not None:
            self.window.truncate(position)

    def _skip(self, message_id: StreamId) -> None:
        self.position = message_id
        if self.window is not None:
            self.window.skip(message_id)
