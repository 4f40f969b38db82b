"""A subscription against a model of log and broker: copies get lost, doubled and late; the client must not notice."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pushcluster_contract.ids import ZERO_ID, StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.session.delivery import (
    DeliveryMachine,
    LogState,
    Output,
    Phase,
    ReadPage,
    Write,
)
from pushcluster_gateway.stomp.frames import AckMode

PAGE = 3
MAX_UNACKED = 4


@dataclass
class World:
    """One user's log, one subscription, and everything under way between them."""

    mode: AckMode
    sub: DeliveryMachine = field(init=False)
    log: list[LogEntry] = field(default_factory=list)
    copies: list[LogEntry] = field(default_factory=list)
    reads: list[tuple[ReadPage, list[LogEntry]]] = field(default_factory=list)
    got: list[int] = field(default_factory=list)
    unacked: list[StreamId] = field(default_factory=list)
    room: int = 1_000

    def __post_init__(self) -> None:
        self.sub = DeliveryMachine(ack_mode=self.mode, last_message_id=None, max_unacked=MAX_UNACKED, page_entries=PAGE)

    def state(self) -> LogState:
        newest = self.log[-1].id if self.log else ZERO_ID
        return LogState(1, newest, ZERO_ID, ZERO_ID, 1)

    def append(self, *, copied: int) -> None:
        entry = LogEntry(StreamId(100, len(self.log) + 1), b"x")
        self.log.append(entry)
        self.copies += [entry] * copied

    def do(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Write):
                self.got.append(output.entry.id.seq)
                if self.mode is not AckMode.AUTO:
                    self.unacked.append(output.entry.id)
                    assert len(self.unacked) <= MAX_UNACKED
            elif isinstance(output, ReadPage):
                page = [entry for entry in self.log if entry.id > output.after][: output.limit]
                self.reads.append((output, page))

    def step(self, action: str, choice: int) -> None:
        sub = self.sub
        match action:
            case "append":
                self.append(copied=choice % 3)
            case "push":
                self.append(copied=0)
                self.do(sub.receive_copy(self.log[-1], self.room, 0))
            case "copy" if self.copies:
                self.do(sub.receive_copy(self.copies.pop(choice % len(self.copies)), self.room, 0))
            case "page" if self.reads:
                self.do(sub.receive_page(*self.reads.pop(choice % len(self.reads)), self.room, 0))
            case "room":
                self.room = 1_000 if choice % 2 else 0
                self.do(sub.proceed(self.room))
            case "ack" if self.unacked:
                covered = sub.covered(self.unacked[choice % len(self.unacked)])
                self.unacked = [each for each in self.unacked if each not in covered]
                self.do(sub.settle(covered, self.room))
            case "refresh":
                self.do(sub.refreshed(self.state(), sub.position, resync=bool(choice % 2), free_bytes=self.room))
            case "register" if sub.phase is Phase.REGISTERING:
                self.do(sub.registered(self.state()))

    def settle(self) -> None:
        """Let everything that is under way arrive, the walk included."""
        self.step("register", 0)
        self.step("room", 1)
        for _ in range(1_000):
            self.step("copy", 0)
            self.step("page", 0)
            self.step("ack", 0)
            if not (self.copies or self.reads or self.unacked):
                before = len(self.got)
                self.step("refresh", 0)
                if not self.reads and before == len(self.got):
                    return
        raise AssertionError("it never comes to rest")


ACTIONS = ["append", "append", "push", "push", "copy", "copy", "page", "page", "room", "ack", "refresh", "register"]


@settings(max_examples=400)
@given(
    mode=st.sampled_from(list(AckMode)),
    steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9)), min_size=20, max_size=80),
)
def test_whatever_happens_to_copies_the_client_gets_everything_once_and_in_order(
    mode: AckMode, steps: list[tuple[str, int]]
) -> None:
    world = World(mode)
    for action, choice in steps:
        world.step(action, choice)
        assert world.got == list(range(1, len(world.got) + 1))
    world.settle()
    assert world.got == list(range(1, len(world.log) + 1))
    assert world.sub.phase is Phase.LIVE
    assert world.sub.window is None or world.sub.window.cursor == world.sub.position
