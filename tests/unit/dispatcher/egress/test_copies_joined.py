"""Copies of a flood to one gateway take its own queue, in mode Session."""

import asyncio

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.routing import RoutingMode
from pushcluster_dispatcher.egress.path_switch import JOIN_ABOVE, PART_AT, STAY_S
from pushcluster_dispatcher.log.entries import Appended
from pushcluster_dispatcher.messages import Message
from pushcluster_runtime.amqp import ConfirmOutcome
from tests.support.clock import moved_clock
from tests.support.waiting import settle
from tests.unit.dispatcher.egress.copies_bench import (
    ALL_CONFIRMED,
    KEY_1,
    KEY_2,
    QUEUE,
    SID_1,
    SID_2,
    Bench,
    bench,
    entry,
    message,
)


def messages(first: int, count: int, *sids: str) -> list[tuple[Message, Appended]]:
    return [(message(str(n)), entry(*sids or (SID_1,))) for n in range(first, first + count)]


def bodies(first: int, count: int) -> list[str]:
    return [str(n) for n in range(first, first + count)]


async def flood(played: Bench) -> None:
    """Send just enough for the copies of SID_1's gateway to be joined."""
    await played.send(*messages(0, JOIN_ABOVE + 1))
    assert played.publisher.published.pop() == ("", QUEUE, [str(JOIN_ABOVE)])
    del played.publisher.published[:]


async def test_one_copy_more_than_single_pushes_are_goes_to_the_gateways_queue() -> None:
    with moved_clock():
        played = bench()
        await played.send(*messages(0, JOIN_ABOVE))
        await played.send(*messages(JOIN_ABOVE, 2))
        assert played.publisher.published == [
            ("amq.topic", KEY_1, bodies(0, JOIN_ABOVE)),
            ("", QUEUE, bodies(JOIN_ABOVE, 2)),
        ]
        assert (played.count("copies_joined"), played.count("copies_sent")) == (2, JOIN_ABOVE + 2)
        assert (played.count("copies_returned"), played.count("copies_fallback")) == (0, 0)


async def test_joined_copies_of_many_users_are_one_message() -> None:
    with moved_clock():
        played = bench()
        await flood(played)
        others = [entry(f"{chr(99 + n)}" * 26) for n in range(20)]
        await played.send(*[(message(str(n), f"user{n}"), each) for n, each in enumerate(others)])
        assert played.publisher.published == [("", QUEUE, bodies(0, 20))]


async def test_another_gateway_keeps_its_path() -> None:
    with moved_clock():
        played = bench()
        await flood(played)
        await played.send(*messages(0, 1, SID_1, SID_2))
        assert played.publisher.published == [("", QUEUE, ["0"]), ("amq.topic", KEY_2, ["0"])]


async def test_after_the_flood_a_push_takes_its_own_queue_again() -> None:
    with moved_clock() as clock:
        played = bench()
        await flood(played)
        for passes_s, to in ((0.9 * STAY_S, ("", QUEUE)), (0.1 * STAY_S, ("amq.topic", KEY_1))):
            await clock.move(passes_s)
            await played.send(*messages(0, 1))
            assert played.publisher.published.pop() == (*to, ["0"])
        assert played.count("copies_joined") == 2


async def test_copies_that_have_no_queue_of_their_own_are_no_flood() -> None:
    with moved_clock():
        played = bench()
        together = entry(SID_1, "c" * 26)
        await played.send(*[(message(str(n)), together) for n in range(JOIN_ABOVE + PART_AT)])
        await played.send(*messages(0, 1))
        assert played.publisher.published[-1] == ("amq.topic", KEY_1, ["0"])
        assert played.count("copies_joined") == 0


async def test_only_joined_copies_are_counted_of_a_message_that_has_others_too() -> None:
    with moved_clock():
        played = bench()
        await flood(played)
        await played.send((message("1"), entry("c" * 26, "d" * 26)), *messages(2, 3))
        assert played.publisher.published == [("", QUEUE, bodies(1, 4))]
        assert played.count("copies_joined") == 1 + 3


async def test_in_the_other_modes_nothing_is_counted_as_joined() -> None:
    for mode in (RoutingMode.GATEWAY, RoutingMode.BROADCAST):
        played = bench(mode=mode)
        await played.send(*messages(0, JOIN_ABOVE + 1))
        assert len(played.publisher.published) == 1
        assert played.count("copies_joined") == 0


async def test_a_joined_copy_that_the_gateway_does_not_take_is_lost_and_tried_nowhere_else() -> None:
    with moved_clock():
        played = bench({**ALL_CONFIRMED, QUEUE: ConfirmOutcome.RETURNED})
        await played.send(*messages(0, JOIN_ABOVE + 1))
        await played.send(*messages(0, 1))
        assert [to for _, to, _ in played.publisher.published] == [KEY_1, QUEUE, QUEUE]
        assert (played.count("copies_lost"), played.count("copies_joined")) == (2, 2)
        assert played.held_bytes() == 0


# The change of the path


async def begun_flood(outcomes: dict[str, ConfirmOutcome] | None = None) -> tuple[Bench, "asyncio.Task[None]"]:
    """Return a publisher that waits at the change, because the broker has answered for none of SID_1's own copies."""
    played = bench({QUEUE: ConfirmOutcome.CONFIRMED, **(outcomes or {})})
    sending = asyncio.create_task(played.send(*messages(0, JOIN_ABOVE + 1)))
    await settle()
    return played, sending


async def test_the_first_joined_copy_waits_for_the_answer_to_those_in_own_queues() -> None:
    with moved_clock():
        played, sending = await begun_flood()
        assert played.publisher.published == [("amq.topic", KEY_1, bodies(0, JOIN_ABOVE))]
        assert not sending.done()
        played.publisher.open[0].set_result(ConfirmOutcome.CONFIRMED)
        await sending
        assert played.publisher.published[1:] == [("", QUEUE, [str(JOIN_ABOVE)])]


async def test_it_waits_for_all_of_them() -> None:
    with moved_clock():
        played = bench({QUEUE: ConfirmOutcome.CONFIRMED})
        other = entry("c" * 26)
        sending = asyncio.create_task(played.send((message("other"), other), *messages(0, JOIN_ABOVE)))
        await settle()
        first, second = played.publisher.open
        second.set_result(ConfirmOutcome.CONFIRMED)
        await settle()
        assert [to for _, to, _ in played.publisher.published] == [f"demo-user{'c' * 26}", KEY_1]
        first.set_result(ConfirmOutcome.CONFIRMED)
        await sending
        assert played.publisher.published[2:] == [("", QUEUE, [str(JOIN_ABOVE - 1)])]


async def test_a_returned_copy_is_under_way_until_the_gateways_queue_has_it() -> None:
    with moved_clock():
        played = bench({})
        sending = asyncio.create_task(played.send(*messages(0, JOIN_ABOVE + 1)))
        await settle()
        played.publisher.open[0].set_result(ConfirmOutcome.RETURNED)
        await settle()
        assert [to for _, to, _ in played.publisher.published] == [KEY_1, QUEUE]
        played.publisher.open[1].set_result(ConfirmOutcome.CONFIRMED)
        await settle()
        assert played.publisher.published[2:] == [("", QUEUE, [str(JOIN_ABOVE)])]
        played.publisher.open[2].set_result(ConfirmOutcome.CONFIRMED)
        await sending


async def test_every_partition_waits_at_the_change() -> None:
    with moved_clock():
        played, sending = await begun_flood()
        other = asyncio.create_task(played.send(*messages(500, 1), partition=1))
        await settle()
        assert len(played.publisher.published) == 1
        played.publisher.open[0].set_result(ConfirmOutcome.CONFIRMED)
        await asyncio.gather(sending, other)
        assert [to for _, to, _ in played.publisher.published] == [KEY_1, QUEUE]


async def test_copies_for_another_gateway_do_not_wait_at_the_change() -> None:
    with moved_clock():
        played, sending = await begun_flood({KEY_2: ConfirmOutcome.CONFIRMED})
        await played.send(*messages(500, 1, SID_2), partition=1)
        assert played.publisher.published[1:] == [("amq.topic", KEY_2, ["500"])]
        assert not sending.done()
        played.publisher.open[0].set_result(ConfirmOutcome.CONFIRMED)
        await sending


async def test_nobody_waits_at_the_change_while_the_broker_blocks() -> None:
    with moved_clock():
        played, sending = await begun_flood()
        played.publisher.takes = False
        played.copies.closed()
        await asyncio.wait_for(sending, 2)
        assert played.count("copies_left_out") == 1


async def test_a_lost_connection_ends_the_wait_at_the_change() -> None:
    with moved_clock():
        played, sending = await begun_flood()
        played.publisher.gone = True
        played.publisher.open[0].set_exception(Unavailable("gone"))
        with pytest.raises(Unavailable, match="connection for copies"):
            await asyncio.wait_for(sending, 2)


async def test_on_the_way_back_a_push_stays_joined_while_others_are_under_way() -> None:
    with moved_clock() as clock:
        played = bench({KEY_1: ConfirmOutcome.CONFIRMED})
        flooding = asyncio.create_task(played.send(*messages(0, JOIN_ABOVE + 1)))
        await settle()
        await clock.move(STAY_S)
        late = asyncio.create_task(played.send(*messages(500, 1)))
        await settle()
        for each in played.publisher.open:
            each.set_result(ConfirmOutcome.CONFIRMED)
        await asyncio.gather(flooding, late)
        await played.send(*messages(501, 1))
        assert played.publisher.published[1:] == [
            ("", QUEUE, [str(JOIN_ABOVE)]),
            ("", QUEUE, ["500"]),
            ("amq.topic", KEY_1, ["501"]),
        ]
