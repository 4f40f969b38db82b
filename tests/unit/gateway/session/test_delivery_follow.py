"""`Subscription.follow` is the short way of `Subscription.copy`: it says the same, or leaves it to it."""

from collections.abc import Callable
from copy import deepcopy
from itertools import product

import pytest

from pushcluster_contract.ids import ZERO_ID, StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.session.acks import AckWindow
from pushcluster_gateway.session.delivery import (
    DeliveryMachine,
    LogState,
    Phase,
    ReadPage,
    Write,
)
from pushcluster_gateway.stomp.frames import AckMode

MS = 1_000
ROOM = 10_000
MAX_UNACKED = 2


def at(seq: int, ms: int = MS) -> StreamId:
    return StreamId(ms, seq)


def registered(mode: AckMode, *, sent: int = 0, last: StreamId | None = None) -> DeliveryMachine:
    """Return one whose log has nothing after entry 5, in CATCHUP."""
    sub = DeliveryMachine(ack_mode=mode, last_message_id=last, max_unacked=MAX_UNACKED, page_entries=3)
    cursor = at(5)
    sub.registered(LogState(MS, cursor, cursor, at(sent) if sent else ZERO_ID, 1))
    return sub


def live(mode: AckMode, *, sent: int = 0, last: StreamId | None = None) -> DeliveryMachine:
    sub = registered(mode, sent=sent, last=last)
    sub.receive_page(ReadPage(at(5), 3, ROOM, 1), [], ROOM, 0)
    assert sub.phase is Phase.LIVE
    return sub


def full(mode: AckMode) -> DeliveryMachine:
    sub = live(mode)
    for seq in range(6, 6 + MAX_UNACKED):
        sub.receive_copy(LogEntry(at(seq), b"x"), ROOM, 0)
    return sub


def written_at(mode: AckMode, ms: int) -> DeliveryMachine:
    sub = live(mode)
    sub.receive_copy(LogEntry(at(6, ms), b"x"), ROOM, 0)
    return sub


STATES: dict[str, Callable[[AckMode], DeliveryMachine]] = {
    "registering": lambda mode: DeliveryMachine(ack_mode=mode, last_message_id=None, max_unacked=2, page_entries=3),
    "catchup": registered,
    "live": live,
    "resumed, and not told yet": lambda mode: live(mode, last=at(5)),
    "sent before": lambda mode: live(mode, sent=8),
    "window full": full,
    "younger than its registration": lambda mode: written_at(mode, MS + 10),
}
ENTRIES = {
    "old": LogEntry(at(5), b"x"),
    "next": LogEntry(at(6), b"x"),
    "next but two": LogEntry(at(8), b"x"),
    "after a hole": LogEntry(at(7), b"x"),
    "next, of an older log": LogEntry(at(6, MS - 1), b"x"),
    "next but one, of an older log": LogEntry(at(7, MS + 5), b"x"),
    "expired": LogEntry(at(6), b"x", expires_ms=1),
    "not expired": LogEntry(at(6), b"x", expires_ms=10**15),
}


def facts(sub: DeliveryMachine) -> list[object]:
    window = sub.window
    return [
        *(getattr(sub, name) for name in DeliveryMachine.__slots__ if name != "window"),
        None if window is None else [getattr(window, name) for name in AckWindow.__slots__],
    ]


@pytest.mark.parametrize(("mode", "state", "entry", "room"), [*product(AckMode, STATES, ENTRIES, (0, 1, ROOM))])
def test_it_does_what_receive_copy_does_or_leaves_the_copy_to_it(
    mode: AckMode, state: str, entry: str, room: int
) -> None:
    sub = STATES[state](mode)
    hurried = deepcopy(sub)
    copy = ENTRIES[entry]
    outputs = sub.receive_copy(copy, room, 10)
    plain = outputs == [Write(copy, redelivered=False, recovered=None)] and not copy.expires_ms
    before = facts(hurried)
    assert hurried.accept_next(copy, room) == plain
    assert facts(hurried) == (facts(sub) if plain else before)


def test_the_usual_case_is_taken() -> None:
    sub = live(AckMode.AUTO)
    assert sub.accept_next(LogEntry(at(6), b"x"), ROOM)
    assert sub.position == sub.sent == at(6)
