"""What producers are told of their messages, over real sockets."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import jwt
import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport, ReplyAddress, ReplyRequest
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session import outcomes as outcomes_module
from pushcluster_gateway.session import refusals
from tests.support.clock import ManualClock
from tests.support.fake_services import JWT_KEY, RunningServer, running_server
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

ADDRESS = ReplyAddress("replies", "c1")
ABSENT = "z" * 26
TOKEN = jwt.encode({"sub": "alice"}, JWT_KEY, algorithm="HS256")


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(Limits(max_unacked_messages=3)) as running:
        yield running


@pytest.fixture
async def alice(server: RunningServer) -> AsyncIterator[StompClient]:
    async with connected(server.url, token=TOKEN) as client:
        yield client


def push(server: RunningServer, *sids: str, address: ReplyAddress = ADDRESS, **fields: Any) -> StreamId:
    """Push a message whose producer asks what becomes of it in these sessions."""
    return server.services.push("alice", b"hi", reply=ReplyRequest(address, sids).encode(), **fields)


def told(server: RunningServer) -> list[MessageOutcome]:
    return [report.outcome for _, report in server.services.reports]


def has_told(server: RunningServer, times: int) -> bool:
    return len(server.services.reports) == times


async def test_in_mode_auto_it_is_written_once_the_socket_has_taken_it(
    server: RunningServer, alice: StompClient
) -> None:
    await alice.subscribe("/user/queue/demo")
    message_id = push(server, alice.session, ABSENT, producer_message_id="order-7")
    await eventually(lambda: server.services.reports, within_s=5)
    assert server.services.reports == [
        (
            ADDRESS,
            OutcomeReport(
                outcome=MessageOutcome.WRITTEN,
                user="alice",
                destination="/queue/demo",
                message_id=str(message_id),
                producer_message_id="order-7",
                session=alice.session,
                gateway="gateway-test",
                sessions=(alice.session, ABSENT),
            ),
        )
    ]


async def test_what_the_socket_has_not_taken_is_not_said_to_be_written(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.subscribe("/user/queue/demo")
    socket = server.services.clients[0].socket
    accepted = socket.sample_accepted()
    looks = 0

    def sample_little() -> int:
        nonlocal looks
        looks += 1
        return accepted

    monkeypatch.setattr(type(socket), "sample_accepted", lambda _: sample_little())
    push(server, alice.session)
    await eventually(lambda: looks >= 3, within_s=5)
    assert told(server) == []
    monkeypatch.undo()
    await eventually(lambda: told(server) == [MessageOutcome.WRITTEN], within_s=5)


async def test_each_check_asks_a_socket_once_however_many_messages_it_has_not_taken(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.subscribe("/user/queue/demo")
    socket, outcomes = server.services.clients[0].socket, server.services.outcomes
    accepted = socket.sample_accepted()
    samples: list[int] = []

    def sample() -> int:
        samples.append(accepted)
        return accepted

    monkeypatch.setattr(type(socket), "sample_accepted", lambda _: sample())
    ids = [push(server, alice.session) for _ in range(50)]
    samples.clear()
    outcomes._check_writes()
    assert len(samples) == 1
    (waiting,) = outcomes._pending_writes.values()
    assert [each.entry.body for each in waiting] == [b""] * 50, "the messages themselves are not kept"
    monkeypatch.undo()
    await alice.next_messages(50)
    await eventually(lambda: len(told(server)) == 50, within_s=5)
    assert [report.message_id for _, report in server.services.reports] == list(map(str, ids))
    assert not outcomes._pending_writes


async def test_a_socket_is_asked_after_the_write_and_then_twenty_times_a_second(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.subscribe("/user/queue/demo")
    outcomes, delays = server.services.outcomes, list[float]()
    with monkeypatch.context() as patch:
        patch.setattr(type(server.services.clients[0].socket), "sample_accepted", lambda _: 0)
        patch.setattr(outcomes, "_call_later", lambda delay_s, _: delays.append(delay_s))
        for _ in range(2):
            push(server, alice.session)
        assert delays == [0.0], "one look is for all"
        outcomes._check_writes()
        outcomes._check_writes()
        assert delays == [0.0, 0.05, 0.05]


async def test_a_client_that_acknowledges_nothing_is_looked_at_less_and_less_often(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.subscribe("/user/queue/demo")
    outcomes, clock, looks = server.services.outcomes, ManualClock(), list[float]()

    def sample_nothing() -> int:
        looks.append(clock.now)
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(type(server.services.clients[0].socket), "sample_accepted", lambda _: sample_nothing())
        patch.setattr(outcomes, "_call_later", lambda *_: None)
        patch.setattr(outcomes, "_clock", clock, raising=False)
        push(server, alice.session)
        looks.clear()
        for _ in range(200):
            outcomes._check_writes()
            clock.now += outcomes_module.WRITE_CHECK_INTERVAL_S
    assert 13 <= len(looks) <= 15, "in 10 seconds"


def test_ten_thousand_untaken_messages_are_noted() -> None:
    assert outcomes_module.MAX_PENDING_WRITES == 10_000


async def test_what_waited_for_a_socket_that_is_gone_is_forgotten(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes_module, "MAX_PENDING_WRITES", 2)
    async with connected(server.url, token=TOKEN) as other:
        await other.subscribe("/user/queue/demo")
        socket = server.services.clients[1].socket
        with monkeypatch.context() as patch:
            patch.setattr(type(socket), "sample_accepted", lambda _: 0)
            push(server, other.session)
            push(server, other.session)
            await other.abort_socket()
            await eventually(lambda: server.services.left and not server.services.outcomes._pending_writes, within_s=5)
    await alice.subscribe("/user/queue/other")
    push(server, alice.session, destination=Destination("queue", "other"))
    await eventually(lambda: told(server) == [MessageOutcome.WRITTEN], within_s=5)


@pytest.mark.parametrize("mode", ["client", "client-individual"])
async def test_with_acknowledgements_it_is_acked_only_when_the_client_says_so(
    server: RunningServer, alice: StompClient, mode: str
) -> None:
    await alice.subscribe("/user/queue/demo", ack=mode)
    push(server, alice.session)
    push(server, alice.session)
    first, second = await alice.next_messages(2)
    assert told(server) == []
    await alice.ack(second, receipt=True)
    assert told(server) == [MessageOutcome.ACKED] * (2 if mode == "client" else 1)
    await alice.ack(first, receipt=True)
    assert told(server) == [MessageOutcome.ACKED] * 2, "each entry is told of once"
    assert not server.services.subscriptions[0].outcome_requests


async def test_what_the_client_refuses_is_rejected(server: RunningServer, alice: StompClient) -> None:
    await alice.subscribe("/user/queue/demo", ack="client")
    push(server, alice.session)
    await alice.nack(await alice.next_message(), receipt=True)
    assert told(server) == [MessageOutcome.REJECTED]


async def test_what_was_too_old_when_its_turn_came_is_expired(server: RunningServer, alice: StompClient) -> None:
    await alice.subscribe("/user/queue/demo")
    push(server, alice.session, expires_ms=1)
    assert told(server) == [MessageOutcome.EXPIRED]
    await alice.no_message(for_s=0.05)


async def test_what_is_read_from_the_log_is_told_of_too(server: RunningServer) -> None:
    """A copy that was lost: the entry comes with the next look at the log."""
    async with connected(server.url, token=TOKEN) as alice:
        push(server, alice.session)
        await alice.subscribe("/user/queue/demo", last_message_id="0-0")
        await alice.next_message()
        await eventually(lambda: told(server) == [MessageOutcome.WRITTEN], within_s=5)


async def test_a_session_that_was_not_there_when_it_was_published_tells_nothing(
    server: RunningServer, alice: StompClient
) -> None:
    await alice.subscribe("/user/queue/demo", ack="client")
    push(server, ABSENT)
    push(server, ABSENT, expires_ms=1)
    await alice.ack(await alice.next_message(), receipt=True)
    assert told(server) == []


async def test_what_nobody_asks_about_is_not_kept(server: RunningServer, alice: StompClient) -> None:
    await alice.subscribe("/user/queue/demo", ack="client")
    server.services.push("alice", b"hi")
    await alice.next_message()
    assert server.services.subscriptions[0].outcome_requests is None


async def test_a_message_that_is_published_again_tells_its_new_asker(server: RunningServer, alice: StompClient) -> None:
    await alice.subscribe("/user/queue/demo", ack="client")
    push(server, alice.session)
    message = await alice.next_message()
    again = ReplyAddress("replies", "c2")
    copy = LogEntry(StreamId.parse(message["message-id"]), b"hi", reply=ReplyRequest(again, (alice.session,)).encode())
    server.services.subscriptions[0].copy_arrived(copy)
    await alice.ack(message, receipt=True)
    assert [address for address, _ in server.services.reports] == [again]
    server.services.subscriptions[0].copy_arrived(copy)
    assert told(server) == [MessageOutcome.ACKED] * 2, "what is settled is remembered"
    assert not server.services.subscriptions[0].outcome_requests


def publish_again(server: RunningServer, message_id: str, *sids: str, **fields: Any) -> None:
    """Let the copy arrive that a dispatcher sends when a message comes again and its producer asks."""
    again = ReplyRequest(ReplyAddress("replies", "c2"), sids).encode()
    copy = LogEntry(StreamId.parse(message_id), b"hi", reply=again, **fields)
    for subscription in server.services.subscriptions:
        subscription.copy_arrived(copy)


async def test_of_a_message_that_was_written_a_retry_learns_that(server: RunningServer, alice: StompClient) -> None:
    await alice.subscribe("/user/queue/demo")
    server.services.push("alice", b"hi")
    message = await alice.next_message()
    publish_again(server, message["message-id"], alice.session)
    await eventually(lambda: told(server) == [MessageOutcome.WRITTEN], within_s=5)
    assert server.services.reports[0][0] == ReplyAddress("replies", "c2")
    await alice.no_message(for_s=0.05)


async def test_of_a_message_that_the_socket_has_not_taken_a_retry_learns_it_once_it_has(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.subscribe("/user/queue/demo")
    socket = server.services.clients[0].socket
    accepted, looks = socket.sample_accepted(), 0

    def sample_little() -> int:
        nonlocal looks
        looks += 1
        return accepted

    monkeypatch.setattr(type(socket), "sample_accepted", lambda _: sample_little())
    message_id = server.services.push("alice", b"hi")
    publish_again(server, str(message_id), alice.session)
    looks = 0
    await eventually(lambda: looks >= 3, within_s=5)
    assert told(server) == []
    monkeypatch.undo()
    await eventually(lambda: told(server) == [MessageOutcome.WRITTEN], within_s=5)


@pytest.mark.parametrize("mode", ["client", "client-individual"])
async def test_of_a_message_that_was_settled_a_retry_learns_how(
    server: RunningServer, alice: StompClient, mode: str
) -> None:
    await alice.subscribe("/user/queue/demo", ack=mode)
    for settle in (alice.ack, alice.nack):
        server.services.push("alice", b"hi")
        message = await alice.next_message()
        await settle(message, receipt=True)
        publish_again(server, message["message-id"], alice.session)
    assert told(server) == [MessageOutcome.ACKED, MessageOutcome.REJECTED]


async def test_of_a_message_that_is_being_put_aside_after_a_nack_a_retry_learns_it_then(
    server: RunningServer, alice: StompClient
) -> None:
    await alice.subscribe("/user/queue/demo", ack="client")
    server.services.push("alice", b"hi")
    message = await alice.next_message()
    (subscription,) = server.services.subscriptions
    ids = [StreamId.parse(message["message-id"])]
    subscription.machine.reject(ids)
    publish_again(server, message["message-id"], alice.session)
    assert told(server) == []
    server.services.outcomes.settled(subscription, ids, MessageOutcome.REJECTED)
    assert told(server) == [MessageOutcome.REJECTED]


@pytest.mark.parametrize("mode", ["auto", "client"])
async def test_a_session_that_subscribed_after_a_message_says_that_an_earlier_one_got_it(
    server: RunningServer, alice: StompClient, mode: str
) -> None:
    message_id = server.services.push("alice", b"hi")
    server.services.cursors["alice", Destination("queue", "demo")] = message_id
    await alice.subscribe("/user/queue/demo", ack=mode, last_message_id=str(message_id))
    publish_again(server, str(message_id), alice.session)
    assert told(server) == [MessageOutcome.WRITTEN]
    await alice.no_message(for_s=0.05)


async def test_of_a_message_that_waits_for_its_ack_a_retry_learns_it_even_if_it_has_expired_since(
    server: RunningServer, alice: StompClient
) -> None:
    await alice.subscribe("/user/queue/demo", ack="client")
    server.services.push("alice", b"hi")
    message = await alice.next_message()
    publish_again(server, message["message-id"], alice.session, expires_ms=1)
    await alice.ack(message, receipt=True)
    assert told(server) == [MessageOutcome.ACKED]


@pytest.mark.parametrize("mode", ["auto", "client"])
async def test_of_a_message_that_has_expired_since_nobody_knows_whether_it_was_written(
    server: RunningServer, alice: StompClient, mode: str
) -> None:
    await alice.subscribe("/user/queue/demo", ack=mode)
    message_id = server.services.push("alice", b"hi", expires_ms=1)
    publish_again(server, str(message_id), alice.session, expires_ms=1)
    server.services.push("alice", b"hi")
    await alice.next_message()
    assert told(server) == []


async def test_so_many_refusals_of_a_subscription_are_remembered_and_of_one_more_the_oldest_is_not_guessed(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MAX_RECENT_REFUSALS", 2)
    await alice.subscribe("/user/queue/demo", ack="client-individual")
    ids = []
    for _ in range(3):
        server.services.push("alice", b"hi")
        message = await alice.next_message()
        await alice.nack(message, receipt=True)
        ids.append(message["message-id"])
    for message_id in ids:
        publish_again(server, message_id, alice.session)
    assert [(report.message_id, report.outcome) for _, report in server.services.reports] == [
        (message_id, MessageOutcome.REJECTED) for message_id in ids[1:]
    ]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [("auto", "client", MessageOutcome.WRITTEN), ("client", "auto", MessageOutcome.ACKED)],
)
async def test_a_session_with_two_subscriptions_tells_of_the_older_one_alone(
    server: RunningServer, alice: StompClient, first: str, second: str, outcome: MessageOutcome
) -> None:
    await alice.subscribe("/user/queue/demo", id="one", ack=first)
    await alice.subscribe("/user/queue/demo", id="two", ack=second)
    push(server, alice.session)
    for message in await alice.next_messages(2):
        if "ack" in message.headers:
            await alice.ack(message, receipt=True)
    await eventually(lambda: told(server), within_s=5)
    push(server, alice.session, expires_ms=1)
    await eventually(lambda: len(told(server)) >= 2, within_s=5)
    assert told(server) == [outcome, MessageOutcome.EXPIRED]


async def test_when_the_older_subscription_ends_the_next_one_tells(server: RunningServer, alice: StompClient) -> None:
    await alice.subscribe("/user/queue/demo", id="one")
    await alice.subscribe("/user/queue/demo", id="two", ack="client")
    await alice.unsubscribe("one")
    push(server, alice.session)
    await alice.ack(await alice.next_message(), receipt=True)
    assert told(server) == [MessageOutcome.ACKED]


async def test_when_the_older_subscription_ends_before_its_ack_the_session_stays_pending(
    server: RunningServer, alice: StompClient
) -> None:
    for subscription in ("one", "two"):
        await alice.subscribe("/user/queue/demo", id=subscription, ack="client")
    push(server, alice.session)
    messages = {message["subscription"]: message for message in await alice.next_messages(2)}
    await alice.unsubscribe("one")
    await alice.ack(messages["two"], receipt=True)
    assert told(server) == []


async def test_when_the_older_subscription_ends_between_both_deliveries_the_session_tells_twice(
    server: RunningServer, alice: StompClient
) -> None:
    """As a fault may have it too: the HTTP API counts the first, and so does whoever reads `reply_to`."""
    for subscription in ("one", "two"):
        await alice.subscribe("/user/queue/demo", id=subscription)
    older, younger = server.services.subscriptions
    entry = LogEntry(StreamId(1_000, 1), b"hi", reply=ReplyRequest(ADDRESS, (alice.session,)).encode())
    older.copy_arrived(entry)
    await eventually(lambda: told(server), within_s=5)
    await alice.unsubscribe("one")
    younger.copy_arrived(entry)
    await eventually(lambda: len(told(server)) == 2, within_s=5)
    assert told(server) == [MessageOutcome.WRITTEN] * 2


async def test_an_address_that_cannot_be_read_harms_nothing(server: RunningServer, alice: StompClient) -> None:
    await alice.subscribe("/user/queue/demo")
    server.services.push("alice", b"hi", reply="garbage")
    assert (await alice.next_message()).text == "hi"
    assert told(server) == []


async def test_so_many_messages_that_wait_for_their_socket_are_noted_and_not_one_more(
    server: RunningServer, alice: StompClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes_module, "MAX_PENDING_WRITES", 2)
    await alice.subscribe("/user/queue/demo")
    for times in (1, 2):
        for _ in range(3):
            push(server, alice.session)
        await alice.next_messages(3)
        await eventually(partial(has_told, server, 2 * times), within_s=5)
        assert server.services.metrics.outcomes_dropped == times


async def test_so_many_unacknowledged_messages_are_noted_and_not_one_more(
    server: RunningServer, alice: StompClient
) -> None:
    await alice.subscribe("/user/queue/demo", ack="client-individual")
    for _ in range(3):
        push(server, alice.session)
    messages = await alice.next_messages(3)
    (subscription,) = server.services.subscriptions
    assert subscription.machine.window is not None
    subscription.machine.window.reset(StreamId(1_000, 3))  # the log was lost
    push(server, alice.session)
    messages += await alice.next_messages(1)
    assert subscription.outcome_requests is not None
    assert len(subscription.outcome_requests) == 3
    await alice.ack(messages[3], receipt=True)
    assert [report.message_id for _, report in server.services.reports] == [messages[3]["message-id"]]
    assert server.services.metrics.outcomes_dropped == 1
