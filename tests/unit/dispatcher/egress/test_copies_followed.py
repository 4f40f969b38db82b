"""Copies of messages that are followed: what gateways are told, and when the hop ends."""

from typing import Final

from pushcluster_contract.batch import BATCH_TYPE
from pushcluster_contract.copy_stamp import COPY_STAMP, CopyStamp
from pushcluster_contract.routing import RoutingMode
from pushcluster_dispatcher.messages import Message
from pushcluster_runtime.amqp import ConfirmOutcome
from pushcluster_runtime.hops import Hop, Trace
from tests.support.clock import ManualClock
from tests.unit.dispatcher.egress.copies_bench import (
    ALL_CONFIRMED,
    KEY_1,
    KEY_2,
    SID_1,
    SID_2,
    WALL_S,
    Bench,
    bench,
    entry,
    message,
)

WAITED_S: Final = 4.0


def follow(played: Bench, body: str) -> Message:
    """Return a message that was appended some seconds ago."""
    clock = played.metrics.hops.clock = ManualClock()
    trace = Trace(played.metrics.hops, (Hop.COPY_SENT,))
    clock.now += WAITED_S
    return message(body, trace=trace)


def timed(played: Bench) -> tuple[float | None, float | None]:
    value, name = played.metrics.registry.get_sample_value, "pushcluster_dispatcher_hop_seconds"
    return value(f"{name}_count", {"hop": "copy_sent"}), value(f"{name}_sum", {"hop": "copy_sent"})


def stamps(played: Bench) -> list[CopyStamp]:
    return [CopyStamp.parse((each.headers or {})[COPY_STAMP]) for each in played.publisher.stamped]


async def test_the_message_with_the_copy_says_when_it_was_sent_and_which_copy_it_is() -> None:
    played = bench(mode=RoutingMode.GATEWAY)
    pairs = [(message("0"), entry(SID_1)), (follow(played, "1"), entry(SID_1)), (message("2"), entry(SID_1))]
    await played.send(*pairs)
    assert [found for _, _, found in played.publisher.published] == [["0", "1", "2"]]
    assert stamps(played) == [(WALL_S, 1)]
    (properties,) = played.publisher.stamped
    assert (properties.type, properties.delivery_mode) == (BATCH_TYPE, 1)
    assert timed(played) == (1, WAITED_S)


async def test_each_message_to_a_session_has_the_mark_and_the_hop_counts_once() -> None:
    played = bench()
    await played.send((follow(played, "1"), entry(SID_1, SID_2)))
    assert [key for _, key, _ in played.publisher.published] == [KEY_1, KEY_2]
    assert stamps(played) == [(WALL_S, 0), (WALL_S, 0)]
    assert timed(played) == (1, WAITED_S)


async def test_other_messages_have_no_mark() -> None:
    played = bench()
    await played.send((follow(played, "1"), entry(SID_1)))
    await played.send((message("2"), entry(SID_1)), (message("3"), entry(SID_2)))
    assert (len(played.publisher.stamped), len(played.publisher.properties)) == (1, 2)


async def test_of_two_in_one_message_the_first_is_followed() -> None:
    played = bench(mode=RoutingMode.GATEWAY)
    await played.send((follow(played, "1"), entry(SID_1)), (follow(played, "2"), entry(SID_1)))
    assert stamps(played) == [(WALL_S, 0)]
    assert timed(played) == (1, WAITED_S)


async def test_a_returned_copy_goes_to_the_gateways_queue_without_a_mark() -> None:
    played = bench({**ALL_CONFIRMED, KEY_1: ConfirmOutcome.RETURNED})
    await played.send((follow(played, "1"), entry(SID_1)))
    assert len(played.publisher.published) == 2
    assert (len(played.publisher.stamped), len(played.publisher.properties)) == (1, 1)


async def test_a_message_without_sessions_has_no_copy_to_time() -> None:
    played = bench()
    await played.send((follow(played, "1"), entry()))
    assert (played.publisher.published, timed(played)) == ([], (0, 0))


async def test_a_copy_that_is_left_out_was_not_sent() -> None:
    played = bench()
    played.publisher.takes = False
    await played.send((follow(played, "1"), entry(SID_1)))
    assert timed(played) == (0, 0)
