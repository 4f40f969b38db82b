import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.routing import RoutingMode, gateway_queue
from pushcluster_contract.sessions import SessionEntry
from pushcluster_dispatcher import copies as copies_module
from pushcluster_dispatcher.copies import Copies, CopyCounts
from pushcluster_dispatcher.log_entries import Appended
from pushcluster_dispatcher.parse import Message
from pushcluster_runtime.amqp import Outcome
from tests.support.waiting import eventually

DEMO = Destination("queue", "demo")
INCARNATION = Incarnation("pod", "0" * 16)
SID_1, SID_2 = "a" * 26, "b" * 26


@dataclass
class PlayedChannel:
    """Answers at once with the outcome that `outcomes` has for a routing key, or leaves it open."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    published: list[tuple[str, str, bytes, dict[str, Any]]] = field(default_factory=list)
    open: list[asyncio.Future[Outcome]] = field(default_factory=list)

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[Outcome]:
        assert mandatory
        self.published.append((exchange, routing_key, body, dict(vars(properties))))
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if routing_key in self.outcomes:
            future.set_result(self.outcomes[routing_key])
        else:
            self.open.append(future)
        return future


def entry(*sids: str, stream_id: str = "1-1", expires_ms: int = 0) -> Appended:
    sessions = {sid: SessionEntry(INCARNATION, (DEMO,)) for sid in sids}
    return Appended(stream_id, known=False, dropped=0, sessions=sessions, expires_ms=expires_ms)


def message(body: bytes = b"hi", **fields: Any) -> Message:
    return Message("alice", DEMO, body, **fields)


KEY_1, KEY_2, QUEUE = f"demo-user{SID_1}", f"demo-user{SID_2}", gateway_queue(INCARNATION)
ALL_CONFIRMED = {KEY_1: Outcome.CONFIRMED, KEY_2: Outcome.CONFIRMED, QUEUE: Outcome.CONFIRMED}


async def test_a_copy_carries_what_the_gateway_needs_and_the_producers_headers() -> None:
    channel = PlayedChannel(ALL_CONFIRMED)
    given = message(content_type="text/plain", message_id="m", headers={"x-a": "b"})
    await Copies(channel, RoutingMode.SESSION).send([(given, entry(SID_1, stream_id="5-7", expires_ms=99))])
    ((exchange, key, body, properties),) = channel.published
    assert (exchange, key, body) == ("amq.topic", KEY_1, b"hi")
    assert (properties["content_type"], properties["message_id"], properties["delivery_mode"]) == ("text/plain", "m", 1)
    assert properties["headers"] == {
        "pc-id": "5-7",
        "pc-user": "alice",
        "pc-destination": "/queue/demo",
        "pc-expires-ms": 99,
        "x-a": "b",
    }


async def test_every_session_gets_a_copy_in_the_order_of_the_log() -> None:
    channel = PlayedChannel(ALL_CONFIRMED)
    copies = Copies(channel, RoutingMode.SESSION)
    sent = await copies.send(
        [(message(b"1"), entry(SID_1, SID_2)), (message(b"2"), entry(SID_1)), (message(), entry())]
    )
    assert [(key, body) for _, key, body, _ in channel.published] == [(KEY_1, b"1"), (KEY_2, b"1"), (KEY_1, b"2")]
    assert await copies.settle(sent) == CopyCounts(sent=3, returned=0, fallback=0, lost=0)


@pytest.mark.parametrize("refusal", [Outcome.RETURNED, Outcome.NACKED])
async def test_a_returned_copy_goes_to_the_queue_of_its_gateway(refusal: Outcome) -> None:
    channel = PlayedChannel({**ALL_CONFIRMED, KEY_1: refusal})
    copies = Copies(channel, RoutingMode.SESSION)
    sent = await copies.send([(message(), entry(SID_1, SID_2))])
    assert await copies.settle(sent) == CopyCounts(sent=2, returned=1, fallback=1, lost=0)
    assert [(exchange, key) for exchange, key, _, _ in channel.published][-1] == ("", QUEUE)


async def test_a_copy_that_the_gateway_does_not_take_either_is_counted() -> None:
    channel = PlayedChannel({KEY_1: Outcome.RETURNED, QUEUE: Outcome.RETURNED})
    copies = Copies(channel, RoutingMode.SESSION)
    assert await copies.settle(await copies.send([(message(), entry(SID_1))])) == CopyCounts(1, 1, 0, 1)


async def test_a_returned_copy_without_a_fallback_is_counted() -> None:
    channel = PlayedChannel({QUEUE: Outcome.RETURNED})
    copies = Copies(channel, RoutingMode.GATEWAY)
    assert await copies.settle(await copies.send([(message(), entry(SID_1, SID_2))])) == CopyCounts(1, 1, 0, 1)


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_COPIES_IN_FLIGHT", 2), ("MAX_COPY_BYTES_IN_FLIGHT", 2 * len(b"body"))]
)
async def test_copies_wait_for_room_when_the_broker_confirms_none(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(copies_module, limit, value)
    channel = PlayedChannel()
    copies = Copies(channel, RoutingMode.SESSION)
    sending = asyncio.create_task(copies.send([(message(b"body"), entry(SID_1))] * 3))
    await eventually(lambda: len(channel.open) == 2, within_s=2)
    await asyncio.sleep(0)
    assert len(channel.published) == 2
    channel.open[0].set_result(Outcome.CONFIRMED)
    assert len(await sending) == 3


async def test_a_lost_channel_ends_the_settling() -> None:
    channel = PlayedChannel()
    copies = Copies(channel, RoutingMode.SESSION)
    sent = await copies.send([(message(), entry(SID_1))])
    channel.open[0].set_exception(Unavailable("gone"))
    with pytest.raises(Unavailable):
        await copies.settle(sent)
