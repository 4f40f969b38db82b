"""How many pages of the log one client reads at once, and how they share the room in its outbox."""

import asyncio
from functools import partial
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import ZERO_ID, StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.delivery import LogState, Phase, ReadPage
from pushcluster_gateway.session.subscription import Subscription
from tests.support.fake_services import FakeServices
from tests.support.fake_socket import FakeSocket
from tests.support.gateways import token

ROOM: Final = 100_000
BODY_BYTES: Final = 1_000
SUBSCRIPTIONS: Final = 32


class NotingServices(FakeServices):
    """Notes which pages are read, and answers when the test says so."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.hold_calls = True
        self.asked: list[tuple[Subscription, ReadPage]] = []

    def read_page(self, subscription: Subscription, asked: ReadPage) -> None:
        self.asked.append((subscription, asked))
        super().read_page(subscription, asked)

    def answer(self) -> None:
        """Answer the calls that wait, and not those that they cause."""
        answered, self.held_calls = self.held_calls, []
        for call in answered:
            call()


class Reader:
    """A client of alice, with a socket that takes what it has when the test says so."""

    def __init__(self, *, subscriptions: int = SUBSCRIPTIONS, messages: int = 0, **limits: Any) -> None:
        self.services = NotingServices(Limits(**{"max_outbox_bytes": ROOM, **limits}))
        self.socket = FakeSocket(self.services.limits, self.services.clock)
        self.client = Client(self.services, self.socket, None, "")
        self.send(f"CONNECT\naccept-version:1.2\nhost:x\nAuthorization:Bearer {token('alice')}\n\n\0")
        self.subscribed = 0
        for n in range(subscriptions):
            for _ in range(messages):
                self.append(n)
            self.subscribe(n)

    def append(self, n: int) -> LogEntry:
        log = self.services.logs.setdefault(("alice", Destination("queue", f"d{n}")), [])
        log.append(LogEntry(StreamId(1_000, len(log) + 1), b"x" * BODY_BYTES))
        return log[-1]

    def subscribe(self, n: int) -> None:
        self.send(f"SUBSCRIBE\nid:{n}\ndestination:/user/queue/d{n}\nreceipt:r{self.subscribed}\n\n\0")
        self.subscribed += 1

    def resync(self, n: int) -> None:
        """Have the subscription compare with its log, as after a lost connection."""
        subscription = self.client.subscriptions[str(n)]
        newest = self.services.logs["alice", subscription.destination][-1].id
        log = LogState(0, newest, ZERO_ID, ZERO_ID, 1)
        subscription.refreshed(log, subscription.machine.position, resync=True)

    def step(self, action: str, choice: int) -> None:
        n = choice % 6
        subscription = self.client.subscriptions.get(str(n))
        match action:
            case "subscribe" if subscription is None:
                self.subscribe(n)
            case "push":
                self.services.push("alice", b"x" * BODY_BYTES, Destination("queue", f"d{n}"))
            case "silent":
                self.append(n)
            case "answer" if self.services.held_calls:
                self.services.held_calls.pop(choice % len(self.services.held_calls))()
            case "drain":
                self.drain()
            case "resync" if subscription is not None:
                self.resync(n)
            case "unsubscribe" if subscription is not None:
                self.send(f"UNSUBSCRIBE\nid:{n}\n\n\0")

    def send(self, frame: str) -> None:
        self.client.received(frame.encode())

    def drain(self) -> None:
        """Have the client read everything that waits for it."""
        self.socket.take()
        self.client.outbox_drained()

    def fill(self) -> None:
        """Leave no room in the outbox."""
        self.socket.send_message(b"x" * self.socket.outbox.free_bytes, b"")

    @property
    def pages_under_way(self) -> int:
        calls = [call for call in self.services.held_calls if isinstance(call, partial)]
        return sum(call.func == self.client.page_ended for call in calls)

    @property
    def receipts(self) -> int:
        return sum(data.startswith(b"RECEIPT") for data in self.socket.sent)

    @property
    def live(self) -> int:
        return sum(each.machine.phase is Phase.LIVE for each in self.client.subscriptions.values())

    def catch_up(self) -> None:
        """Let everything arrive, for as long as something is under way."""
        for _ in range(10_000):
            self.services.answer()
            self.drain()
            if not self.services.held_calls:
                return
        raise AssertionError("it never comes to rest")


async def test_what_waiting_subscriptions_ask_for_fits_together_into_the_room() -> None:
    reader = Reader(messages=200)
    reader.services.answer()  # the subscriptions are registered
    reader.fill()
    while reader.services.held_calls:
        reader.services.answer()
    assert all(each.machine.waits for each in reader.client.subscriptions.values()), "there was no room"
    reader.services.asked.clear()
    reader.drain()
    assert 0 < sum(asked.max_bytes for _, asked in reader.services.asked) <= ROOM


async def test_of_what_is_read_nearly_everything_is_written() -> None:
    reader = Reader(messages=200)
    reader.catch_up()
    written = reader.services.metrics.messages_written
    assert reader.live == SUBSCRIPTIONS
    assert written == SUBSCRIPTIONS * 200


async def test_so_many_pages_are_read_at_once_and_every_subscription_has_its_turn_and_its_receipt() -> None:
    reader = Reader()
    reader.services.answer()
    turns: list[list[str]] = []
    while reader.services.held_calls:
        turns.append([subscription.key for subscription, _ in reader.services.asked])
        reader.services.asked.clear()
        reader.services.answer()
    assert turns == [[str(n) for n in range(first, first + 4)] for first in range(0, SUBSCRIPTIONS, 4)]
    assert (reader.receipts, reader.live) == (SUBSCRIPTIONS, SUBSCRIPTIONS)


async def test_a_single_subscription_has_all_the_room() -> None:
    reader = Reader(subscriptions=1, messages=200)
    reader.services.answer()
    ((_, asked),) = reader.services.asked
    assert asked.max_bytes == reader.socket.outbox.free_bytes


async def test_receipts_come_while_the_outbox_is_full() -> None:
    reader = Reader(messages=3)
    reader.fill()
    while reader.services.held_calls:
        reader.services.answer()
    assert reader.receipts == SUBSCRIPTIONS
    assert {asked.max_bytes for _, asked in reader.services.asked} == {1}
    reader.catch_up()
    assert reader.services.metrics.messages_written == SUBSCRIPTIONS * 3


async def test_one_that_unsubscribes_while_it_waits_is_not_read_for() -> None:
    reader = Reader(subscriptions=6)
    reader.services.answer()
    reader.send("UNSUBSCRIBE\nid:4\n\n\0")
    reader.catch_up()
    assert [subscription.key for subscription, _ in reader.services.asked] == ["0", "1", "2", "3", "5"]
    assert reader.live == 5


async def test_one_that_unsubscribes_while_its_page_is_under_way_gives_its_turn_back_when_that_ends() -> None:
    reader = Reader(subscriptions=5)
    reader.services.answer()
    reader.send("UNSUBSCRIBE\nid:0\n\n\0")
    assert len(reader.services.asked) == 4
    reader.catch_up()
    assert reader.live == 4


async def test_a_page_that_nobody_wants_any_more_gives_its_turn_back() -> None:
    reader = Reader(subscriptions=5)
    reader.services.answer()
    (first, asked), *_ = reader.services.asked
    reader.services.held_calls.pop(0)
    first.ended = True
    reader.client.page_ended(first, asked, None)
    assert reader.services.asked[-1][0].key == "4"


async def test_a_client_that_has_ended_reads_nothing_more() -> None:
    reader = Reader(subscriptions=6)
    reader.services.answer()
    reader.client.lost()
    reader.services.answer()
    assert len(reader.services.asked) == 4
    assert not reader.services.held_calls


async def test_a_page_from_before_a_resync_counts_until_it_has_come_and_is_then_read_again() -> None:
    reader = Reader(subscriptions=4, messages=1)
    reader.services.answer()
    for n in range(4):
        reader.resync(n)
    assert len(reader.services.asked) == 4
    reader.services.answer()
    assert len(reader.services.asked) == 8
    assert not reader.services.metrics.messages_written
    reader.catch_up()
    assert (reader.live, reader.receipts, reader.services.metrics.messages_written) == (4, 4, 4)


async def test_a_client_at_rest_keeps_nothing_of_the_pages_it_has_read() -> None:
    reader = Reader(messages=2)
    reader.catch_up()
    assert reader.client._page_turns is None


ACTIONS: Final = ["subscribe", "push", "push", "silent", "answer", "answer", "drain", "resync", "unsubscribe"]


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 40)), min_size=20, max_size=60))
def test_whatever_happens_meanwhile_every_subscription_catches_up(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_catches_up(steps))


async def _catches_up(steps: list[tuple[str, int]]) -> None:
    reader = Reader(subscriptions=6, messages=2, max_outbox_messages=5, page_entries=3, max_outbox_bytes=4_000)
    for action, choice in steps:
        reader.step(action, choice)
        assert reader.pages_under_way <= reader.services.limits.max_page_reads
    reader.catch_up()
    for number in range(6):
        reader.step("resync", number)  # nothing else tells a client at rest of what was appended silently
    reader.catch_up()
    assert reader.client._page_turns is None
    assert reader.receipts == reader.subscribed
    for subscription in reader.client.subscriptions.values():
        newest = reader.services.logs["alice", subscription.destination][-1].id
        assert subscription.machine.position == newest
