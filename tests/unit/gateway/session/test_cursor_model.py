"""Many sessions of one user against a model of log and cursor: clients say what they like, and get what they get.

The cursor never passes an entry that no session got: that no socket took (`auto`), and no client acknowledged
(`client*`).
"""

from dataclasses import dataclass, field
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from pushcluster_contract.ids import ZERO_ID, StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.session.delivery import DeliveryMachine, LogState, Output, ReadPage, Write
from pushcluster_gateway.session.progress import Progress
from pushcluster_gateway.stomp.frames import AckMode

PAGE: Final = 3
MAX_UNACKED: Final = 4
ENTRY_BYTES: Final = 10
ROOM: Final = 1_000


@dataclass
class Session:
    """One session: its subscription, and what its client has got."""

    sub: DeliveryMachine
    mode: AckMode
    progress: Progress = field(default_factory=Progress)
    reads: list[tuple[ReadPage, list[LogEntry]]] = field(default_factory=list)
    written: list[StreamId] = field(default_factory=list)
    taken: int = 0
    """How many of them the socket has taken."""
    unacked: list[StreamId] = field(default_factory=list)

    @property
    def cursor(self) -> StreamId:
        self.progress.accept(self.taken * ENTRY_BYTES)
        return self.progress.accepted if self.sub.window is None else self.sub.window.cursor


@dataclass
class User:
    """A user's log, its cursor, and all sessions."""

    log: list[LogEntry] = field(default_factory=list)
    newest: StreamId = ZERO_ID
    cursor: StreamId = ZERO_ID
    sent: StreamId = ZERO_ID
    sessions: list[Session] = field(default_factory=list)
    got: set[StreamId] = field(default_factory=set)
    last: StreamId = ZERO_ID
    """The newest that a client of this user has seen."""

    def append(self, later_ms: int) -> None:
        self.newest = StreamId(max(self.newest.ms, 1_000) + later_ms, self.newest.seq + 1)
        self.log.append(LogEntry(self.newest, b"x"))
        for session in self.sessions:
            self._do(session, session.sub.receive_copy(self.log[-1], ROOM, 0))

    def subscribe(self, mode: AckMode, said: StreamId | None) -> None:
        sub = DeliveryMachine(
            ack_mode=mode, last_message_id=said, max_unacked=MAX_UNACKED, page_entries=PAGE, page_bytes=ROOM
        )
        session = Session(sub, mode)
        self.sessions.append(session)
        held = [entry.id for entry in self.log if said is not None and entry.id <= said]
        oldest = self.newest.seq - len(self.log) + 1
        state = LogState(1, self.newest, self.cursor, self.sent, oldest, held=held[-1] if held else None)
        self._do(session, sub.registered(state))
        assert sub.position <= self.cursor

    def step(self, action: str, choice: int) -> None:
        match action:
            case "append":
                self.append(choice % 3)
            case "come":
                self.subscribe(list(AckMode)[choice % 3], None)
            case "resume":
                self.subscribe(list(AckMode)[choice % 3], self.last)
            case "lie":
                self.subscribe(list(AckMode)[choice % 3], self._bogus(choice // 3))
            case "trim" if len(self.log) > 5:
                del self.log[0]
            case _ if self.sessions:
                self._act(self.sessions[choice % len(self.sessions)], action, choice // len(self.sessions))

    def _bogus(self, choice: int) -> StreamId:
        """Return what a careless client may have kept: also what happens to be an id of this log."""
        newest = self.newest
        return (
            *(StreamId(newest.ms, newest.seq + 5), StreamId(10**15, 1), StreamId(newest.ms, max(0, newest.seq - 2))),
            *(newest, self.log[len(self.log) // 2].id if self.log else ZERO_ID, StreamId(5, 3), StreamId(5, 10**6)),
        )[choice % 7]

    def _act(self, session: Session, action: str, choice: int) -> None:
        sub = session.sub
        match action:
            case "page" if session.reads:
                self._do(session, sub.receive_page(*session.reads.pop(0), ROOM, 0))
            case "take" if session.mode is AckMode.AUTO:
                session.taken = min(len(session.written), session.taken + 1 + choice % 3)
                self.got.update(session.written[: session.taken])
                self.last = max([self.last, *session.written[: session.taken]])
            case "ack" if session.unacked:
                covered = sub.covered(session.unacked[choice % len(session.unacked)])
                session.unacked = [each for each in session.unacked if each not in covered]
                self.got.update(covered)
                self.last = max([self.last, *session.written])
                self._do(session, sub.settle(covered, ROOM))
            case "flush":
                self._flush(session)
            case "leave":
                self._flush(session)
                self.sessions.remove(session)

    def _flush(self, session: Session) -> None:
        self.cursor = max(self.cursor, min(session.cursor, self.newest))
        self.sent = max(self.sent, session.sub.sent)

    def _do(self, session: Session, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Write):
                session.written.append(output.entry.id)
                if session.mode is not AckMode.AUTO:
                    session.unacked.append(output.entry.id)
            elif isinstance(output, ReadPage):
                page = [entry for entry in self.log if entry.id > output.after][: output.limit]
                session.reads.append((output, page))
        session.progress.wrote(session.sub.position, len(session.written) * ENTRY_BYTES)


ACTIONS: Final = [
    *("append", "append", "append", "come", "resume", "lie", "lie", "page", "page", "page"),
    *("take", "take", "ack", "ack", "flush", "flush", "leave", "trim"),
]


@settings(max_examples=400)
@given(steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 60)), min_size=20, max_size=80))
def test_whatever_clients_say_the_cursor_passes_nothing_that_no_session_got(steps: list[tuple[str, int]]) -> None:
    user = User()
    for action, choice in steps:
        user.step(action, choice)
        passed = [entry.id for entry in user.log if entry.id <= user.cursor]
        assert user.got.issuperset(passed), "nobody would get it again"
