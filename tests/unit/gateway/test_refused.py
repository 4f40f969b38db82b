"""Copies of messages that clients refuse by NACK: where they go, and how many a user has."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.headers import DESTINATION, REJECT_REASON, REJECT_USER
from pushcluster_contract.ids import Incarnation, StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.refused import COPIES_IN_FLIGHT, RefusedMessages
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_runtime.amqp import ConfirmOutcome
from tests.support.clock import ManualClock
from tests.unit.gateway.fakes import DEMO, FakeClient, as_client

BURST = Limits().max_refused_copies
ENTRY = LogEntry(StreamId(5, 1), b"body", headers={"x-kind": "a"}, content_type="text/plain", producer_message_id="m")


class Services:
    """A log that has every entry but those that have left it, and a queue that takes everything."""

    def __init__(self) -> None:
        self.left: set[StreamId] = set()
        self.read: list[tuple[str, StreamId]] = []
        self.copied: list[tuple[str, bytes]] = []
        self.away = False

    async def read_entry(self, user: str, _: Destination, message_id: StreamId) -> LogEntry | None:
        self.read.append((user, message_id))
        return None if message_id in self.left else ENTRY._replace(id=message_id, body=str(message_id).encode())

    async def put_refused(self, user: str, _: Destination, entry: LogEntry) -> None:
        if self.away:
            raise Unavailable("RabbitMQ: closed")
        self.copied.append((user, entry.body))


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def refused(services: Services, metrics: Metrics, clock: ManualClock) -> RefusedMessages:
    return RefusedMessages(
        cast(SessionRegistry, services), cast(BrokerLink, services), limits=Limits(), metrics=metrics, clock=clock
    )


async def refuse(refused: RefusedMessages, user: str, count: int, sid: str = "s") -> None:
    client = as_client(FakeClient(user, sid))
    for seq in range(1, count + 1):
        await refused.copy(client, DEMO, StreamId(5, seq))


async def test_one_refused_message_more_than_the_bound_counts_as_handled_without_a_copy(
    refused: RefusedMessages, services: Services, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    await refuse(refused, "mallory", BURST + 1)
    assert len(services.copied) == len(services.read) == BURST
    assert (metrics.messages_rejected, metrics.refusals_not_copied) == (BURST, 1)
    await refuse(refused, "mallory", 10)
    (said,) = caplog.records
    assert said.getMessage() == "a client refuses more messages than are copied to push.refused"
    assert said.__dict__["session"] == "s"


async def test_a_new_session_of_the_same_user_has_no_copies_of_its_own(
    refused: RefusedMessages, services: Services
) -> None:
    for n in range(5):
        await refuse(refused, "mallory", BURST, sid=f"s{n}")
    assert len(services.copied) == BURST


async def test_who_refuses_everything_takes_no_copy_from_another(refused: RefusedMessages, services: Services) -> None:
    await refuse(refused, "mallory", 10 * BURST)
    await refuse(refused, "alice", 3)
    assert [body for user, body in services.copied if user == "alice"] == [b"5-1", b"5-2", b"5-3"]


async def test_after_a_minute_so_many_copies_are_there_again(
    refused: RefusedMessages, services: Services, clock: ManualClock
) -> None:
    await refuse(refused, "alice", 2 * BURST)
    clock.now += 60
    await refuse(refused, "alice", 2 * BURST)
    assert len(services.copied) == BURST + 60


async def test_a_message_that_has_left_the_log_is_not_copied_and_that_is_said(
    refused: RefusedMessages, services: Services, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    services.left.add(StreamId(5, 1))
    await refuse(refused, "alice", 2)
    assert services.copied == [("alice", b"5-2")]
    assert metrics.messages_rejected == 1
    assert [each.getMessage() for each in caplog.records] == [
        "a message that the client refused has left the log: push.refused does not get it"
    ]


async def test_a_copy_that_the_queue_does_not_take_is_not_counted_as_one(
    refused: RefusedMessages, services: Services, metrics: Metrics
) -> None:
    services.away = True
    with pytest.raises(Unavailable):
        await refuse(refused, "alice", 1)
    assert metrics.messages_rejected == 0


async def test_one_copy_more_than_may_be_in_flight_waits_without_its_message(
    refused: RefusedMessages, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker may confirm nothing for long, and many clients may refuse what they get meanwhile."""
    confirmed = asyncio.Event()

    async def put(*_: object) -> None:
        await confirmed.wait()

    monkeypatch.setattr(services, "put_refused", put)
    async with asyncio.TaskGroup() as group:
        for n in range(COPIES_IN_FLIGHT + 1):
            group.create_task(refuse(refused, f"user{n}", 1))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(services.read) == COPIES_IN_FLIGHT
        confirmed.set()
    assert len(services.read) == COPIES_IN_FLIGHT + 1


class FakeChannel:
    """Notes what is published and answers with one outcome."""

    def __init__(self, outcome: ConfirmOutcome) -> None:
        self.outcome = outcome
        self.published: list[tuple[str, str, bytes, BasicProperties, bool]] = []

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[ConfirmOutcome]:
        self.published.append((exchange, routing_key, body, properties, mandatory))
        answer: asyncio.Future[ConfirmOutcome] = asyncio.get_running_loop().create_future()
        answer.set_result(self.outcome)
        return answer


def link_over(channel: FakeChannel) -> BrokerLink:
    link = BrokerLink(
        url="amqp://127.0.0.1",
        name="gateway",
        incarnation=Incarnation("pod", "0" * 16),
        on_message=lambda _: None,
        on_connected=cast(Callable[[], Any], None),
        environment=Environment(lambda: 0.0, lambda: 0.0, bytes, lambda: 0.5),
        metrics=Metrics(),
    )
    link._publisher = cast(Any, SimpleNamespace(channel=channel))
    return link


async def test_a_refused_message_goes_to_a_queue_of_its_own() -> None:
    """What a client refuses must not push a producer's malformed messages out of push.rejected."""
    channel = FakeChannel(ConfirmOutcome.CONFIRMED)
    await link_over(channel).put_refused("alice", DEMO, ENTRY)
    ((exchange, routing_key, body, properties, mandatory),) = channel.published
    assert (exchange, routing_key, body, mandatory) == ("", "push.refused", b"body", True)
    assert properties.headers == {
        "x-kind": "a",
        DESTINATION: "/queue/demo",
        REJECT_USER: "alice",
        REJECT_REASON: "the client refused it (NACK)",
    }
    assert (properties.message_id, properties.content_type, properties.delivery_mode) == ("m", "text/plain", 2)


@pytest.mark.parametrize("outcome", [ConfirmOutcome.RETURNED, ConfirmOutcome.NACKED])
async def test_a_refused_message_that_the_queue_does_not_take_is_told_to_the_client(outcome: ConfirmOutcome) -> None:
    with pytest.raises(Unavailable, match=outcome.name.lower()):
        await link_over(FakeChannel(outcome)).put_refused("alice", DEMO, ENTRY)
