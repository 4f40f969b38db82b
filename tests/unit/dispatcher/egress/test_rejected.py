import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.headers import REJECT_REASON, REJECT_USER
from pushcluster_contract.topology import Topology, build_publish_targets
from pushcluster_dispatcher.egress.rejected import (
    MAX_HEADER_BYTES,
    MAX_REASON_CHARS,
    TRY_AGAIN_S,
    RejectPublisher,
    build_rejected,
)
from pushcluster_dispatcher.messages import RejectClass, Rejection
from pushcluster_runtime.amqp import ConfirmOutcome, Delivery, PropertiesTemplate

FRAME_MAX = 131_072
NO_DESTINATION = Rejection(RejectClass.DESTINATION, "header 'destination' is missing")


def delivery(routing_key: Any = "alice", **properties: Any) -> Delivery:
    return Delivery(1, "push", routing_key, False, BasicProperties(**properties), b"body", "c")


def encoded_size(properties: BasicProperties) -> int:
    return sum(map(len, properties.encode()))


def test_the_reason_and_the_user_stand_beside_the_producers_own_headers() -> None:
    built = build_rejected(delivery(headers={"x-a": "b", "n": 1}, message_id="m", content_type="t"), NO_DESTINATION)
    assert built.headers == {"x-a": "b", "n": 1, REJECT_REASON: NO_DESTINATION.reason, REJECT_USER: "alice"}
    assert (built.message_id, built.content_type, built.delivery_mode) == ("m", "t", 2)


def test_what_the_broker_would_act_on_again_is_left_out() -> None:
    old = delivery(
        expiration="1", user_id="producer", reply_to="q", headers={"CC": ["other"], "BCC": ["x"], "pc-seq": 4}
    )
    built = build_rejected(old, NO_DESTINATION)
    assert (built.expiration, built.user_id, built.reply_to) == (None, None, None)
    assert set(built.headers or {}) == {REJECT_REASON, REJECT_USER}


def test_headers_as_large_as_a_frame_are_left_out_and_counted() -> None:
    old = delivery(headers={f"h{n}": "x" * 1_000 for n in range(125)}, message_id="m")
    built = build_rejected(old, NO_DESTINATION)
    assert encoded_size(built) < MAX_HEADER_BYTES
    assert (built.headers or {})[REJECT_REASON] == f"{NO_DESTINATION.reason} (125 headers left out)"


@pytest.mark.parametrize(("more", "kept"), [(0, True), (1, False)])
def test_headers_of_one_byte_more_than_allowed_are_left_out(more: int, kept: bool) -> None:
    quotes, overhead = 4, 16
    value = "x" * (MAX_HEADER_BYTES - quotes - overhead - len("h") + more)
    assert ("h" in (build_rejected(delivery(headers={"h": value}), NO_DESTINATION).headers or {})) is kept


@pytest.mark.parametrize("value", ["é" * 30_000, b"\xff" * 60_000, ["x" * 60_000], 7], ids=type)
def test_what_is_kept_always_fits_into_one_frame(value: Any) -> None:
    old = delivery("u" * 255, headers={"h": value, "i": "y" * 5_000}, message_id="m" * 255, content_type="c" * 255)
    built = build_rejected(old, Rejection(RejectClass.SCRIPT, "é" * 10_000))
    assert encoded_size(built) < FRAME_MAX - 100


def test_one_character_more_of_a_reason_is_cut() -> None:
    built = build_rejected(delivery(), Rejection(RejectClass.SCRIPT, "r" * MAX_REASON_CHARS + "!"))
    assert (built.headers or {})[REJECT_REASON] == "r" * MAX_REASON_CHARS


def test_a_user_and_properties_that_are_not_utf8_can_be_published() -> None:
    built = build_rejected(delivery(b"\xffa", message_id=b"\xff", headers={b"\xff": 1}), NO_DESTINATION)
    assert (built.headers or {})[REJECT_USER] == "\\xffa"
    assert built.message_id is None
    assert encoded_size(built) > 0


def test_a_bare_one_has_none_of_the_producers_headers() -> None:
    built = build_rejected(delivery(headers={"a": 1}), NO_DESTINATION, bare=True)
    assert set(built.headers or {}) == {REJECT_REASON, REJECT_USER}


def test_a_float_is_kept_as_text_because_pika_writes_none() -> None:
    built = build_rejected(delivery(headers={"ratio": 1.5}), NO_DESTINATION)
    assert (built.headers or {})["ratio"] == "1.5"
    assert encoded_size(built) > 0


@dataclass
class PlayedConnection:
    """Hands out channels in turn; each publish waits for the test."""

    channels: list["PlayedChannel"]

    async def wait_writable(self) -> "PlayedChannel":
        return self.channels.pop(0)


@dataclass
class PlayedChannel:
    outcome: ConfirmOutcome | None = ConfirmOutcome.CONFIRMED
    """None: the connection is lost instead."""
    refuses: set[str] = field(default_factory=set)
    """Headers that cannot be encoded."""
    published: list[tuple[str, str, bytes, BasicProperties]] = field(default_factory=list)
    lost: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    declared: list[Topology] = field(default_factory=list)

    async def declare(self, topology: Topology) -> None:
        self.declared.append(topology)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | PropertiesTemplate,
        *,
        mandatory: bool,
    ) -> asyncio.Future[ConfirmOutcome]:
        assert mandatory
        assert isinstance(properties, BasicProperties)
        if self.refuses.intersection(map(str, list(properties.headers or {}))):
            raise InvalidInput("cannot be encoded")
        self.published.append((exchange, routing_key, body, properties))
        future: asyncio.Future[ConfirmOutcome] = asyncio.get_running_loop().create_future()
        if self.outcome is None:
            self.lost.set_result("gone")
            future.set_exception(Unavailable("gone"))
        else:
            future.set_result(self.outcome)
        return future


async def test_a_message_is_put_aside_again_when_the_connection_is_lost_before_the_confirm() -> None:
    lost, good = PlayedChannel(None), PlayedChannel()
    await RejectPublisher(PlayedConnection([lost, good])).put(delivery(), NO_DESTINATION)
    assert [(exchange, body) for exchange, _, body, _ in good.published] == [("push.rejected", b"body")]


@pytest.mark.parametrize("outcome", [ConfirmOutcome.NACKED, ConfirmOutcome.RETURNED])
async def test_a_message_that_push_rejected_does_not_take_is_put_there_again_after_a_pause(
    outcome: ConfirmOutcome,
) -> None:
    """A queue that was deleted is declared first."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    refusing, good = PlayedChannel(outcome), PlayedChannel()
    await RejectPublisher(PlayedConnection([refusing, refusing, good]), sleep=sleep).put(delivery(), NO_DESTINATION)
    assert slept == [TRY_AGAIN_S] * 2
    assert [len(channel.published) for channel in (refusing, good)] == [2, 1]
    assert refusing.declared == [build_publish_targets()] * (2 if outcome is ConfirmOutcome.RETURNED else 0)


async def test_headers_that_cannot_be_written_again_are_left_out() -> None:
    channel = PlayedChannel(refuses={"odd"})
    await RejectPublisher(PlayedConnection([channel])).put(delivery(headers={"odd": 1}), NO_DESTINATION)
    assert "left out" in str((channel.published[0][3].headers or {})[REJECT_REASON])
