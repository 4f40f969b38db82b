import asyncio

import pytest

from pushcluster_contract.batch import parse_batch, parse_copy
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation, StreamId
from pushcluster_contract.limits import INGRESS_PARTITIONS, MAX_BATCH_BYTES, MAX_BATCH_COPIES, MAX_BODY_BYTES
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.outcomes import ReplyAddress, ReplyRequest
from pushcluster_contract.routing import RoutingMode, gateway_queue
from pushcluster_dispatcher.egress import copies as copies_module
from pushcluster_dispatcher.egress import copy_budget
from pushcluster_runtime.amqp import ConfirmOutcome
from pushcluster_runtime.amqp.frames import decode_properties
from pushcluster_runtime.tasks import cancel
from tests.support.clock import moved_clock
from tests.support.waiting import eventually
from tests.unit.dispatcher.egress.copies_bench import (
    ALL_CONFIRMED,
    DEMO,
    KEY_1,
    KEY_2,
    OTHER_GATEWAY,
    OTHER_QUEUE,
    QUEUE,
    SID_1,
    SID_2,
    bench,
    entry,
    message,
)


async def test_a_copy_carries_all_that_the_log_has() -> None:
    played = bench()
    given = message(content_type="text/plain", message_id="m", headers={"x-a": "b"})
    await played.send((given, entry(SID_1, stream_id=b"5-7", expires_ms=99)))
    (body,) = played.publisher.bodies
    ((address, position),) = parse_batch(body)
    assert address == b"alice/queue/demo"
    assert parse_copy(body, position) == LogEntry(StreamId(5, 7), b"hi", "text/plain", "m", {"x-a": "b"}, 99)
    properties = decode_properties(played.publisher.properties[0].encode(3))
    assert (properties.type, properties.delivery_mode, properties.headers) == ("pushcluster.copies", 1, {"pc-seq": 3})


async def test_the_copy_of_a_message_that_came_again_says_what_the_log_says() -> None:
    played = bench()
    again = message(content_type="new/one", message_id="m", headers={"traceparent": "00-2"})
    known = entry(SID_1)._replace(known=True, held=(b"old/one", b'{"traceparent":"00-1"}'))
    await played.send((again, known))
    (body,) = played.publisher.bodies
    ((_, position),) = parse_batch(body)
    copy = parse_copy(body, position)
    assert (copy.content_type, copy.headers) == ("old/one", {"traceparent": "00-1"})


@pytest.mark.parametrize("mode", list(RoutingMode))
async def test_a_message_that_has_left_the_log_gets_no_copy_when_it_comes_again(mode: RoutingMode) -> None:
    played = bench(mode=mode)
    await played.send((message(), entry(SID_1)._replace(known=True)))
    assert played.publisher.published == []


async def test_a_copy_whose_producer_wants_outcomes_says_where_and_who_was_there() -> None:
    played = bench()
    address = ReplyAddress("answers", "7")
    await played.send((message(reply=address), entry(SID_1, SID_2)))
    body, _ = played.publisher.bodies
    assert ReplyRequest.parse(parse_copy(body, parse_batch(body)[0][1]).reply) == ReplyRequest(address, (SID_1, SID_2))


async def test_every_session_gets_its_copies_in_the_order_of_the_log() -> None:
    played = bench()
    await played.send((message("1"), entry(SID_1, SID_2)), (message("2"), entry(SID_1)), (message("3"), entry()))
    assert played.publisher.published == [("amq.topic", KEY_1, ["1", "2"]), ("amq.topic", KEY_2, ["1"])]
    assert (played.count("copies_sent"), played.count("batches_sent"), played.count("copies_lost")) == (3, 2, 0)


async def test_copies_of_all_partitions_for_one_gateway_in_one_tick_become_one_message() -> None:
    played = bench(mode=RoutingMode.GATEWAY)
    sends = (played.send((message(str(n), f"user{n}"), entry(SID_1)), partition=n % 16) for n in range(20))
    await asyncio.gather(*sends)
    assert played.publisher.published == [("", QUEUE, [str(n) for n in range(20)])]
    await played.send((message("later"), entry(SID_1)))
    assert len(played.publisher.published) == 2


async def test_each_gateway_gets_its_own_copies() -> None:
    other = gateway_queue(OTHER_GATEWAY)
    played = bench({QUEUE: ConfirmOutcome.CONFIRMED, other: ConfirmOutcome.CONFIRMED}, RoutingMode.GATEWAY)
    await played.send((message("1"), entry(SID_1)), (message("2"), entry(SID_2, gateway=OTHER_GATEWAY)))
    assert played.publisher.published == [("", QUEUE, ["1"]), ("", other, ["2"])]


async def test_mode_broadcast_joins_copies_too_and_ignores_the_sessions() -> None:
    played = bench(mode=RoutingMode.BROADCAST)
    await played.send((message("1"), entry()), (message("2", "bob"), entry(SID_1)))
    assert played.publisher.published == [("push.broadcast", "", ["1", "2"])]


async def test_one_copy_more_than_a_batch_may_have_begins_the_next() -> None:
    played = bench(mode=RoutingMode.GATEWAY)
    await played.send(*[(message(str(n)), entry(SID_1)) for n in range(MAX_BATCH_COPIES + 1)])
    assert [len(found) for _, _, found in played.publisher.published] == [MAX_BATCH_COPIES, 1]
    assert [body for _, _, found in played.publisher.published for body in found] == [
        str(n) for n in range(MAX_BATCH_COPIES + 1)
    ]


async def test_one_byte_more_than_a_batch_may_have_begins_the_next() -> None:
    def size_of(last: int) -> list[int]:
        return [len(body) for body in played.publisher.bodies]

    for extra in (0, 1):
        played = bench(mode=RoutingMode.GATEWAY)
        await played.send((message(b"x"), entry(SID_1)))
        overhead = len(played.publisher.bodies.pop()) - 1 - 1
        rest = MAX_BATCH_BYTES - 1 - 2 * overhead - MAX_BODY_BYTES + extra
        await played.send((message(b"x" * MAX_BODY_BYTES), entry(SID_1)), (message(b"x" * rest), entry(SID_1)))
        assert len(size_of(extra)) == 1 + extra
        assert max(size_of(extra)) <= MAX_BATCH_BYTES


@pytest.mark.parametrize("refusal", [ConfirmOutcome.RETURNED, ConfirmOutcome.NACKED])
async def test_a_returned_copy_goes_to_the_queue_of_its_gateway(refusal: ConfirmOutcome) -> None:
    played = bench({**ALL_CONFIRMED, KEY_1: refusal})
    await played.send((message(), entry(SID_1, SID_2)))
    assert (played.count("copies_sent"), played.count("copies_returned"), played.count("copies_fallback")) == (2, 1, 1)
    assert played.publisher.published[-1] == ("", QUEUE, ["hi"])
    assert played.count("copies_lost") == 0


async def test_a_copy_that_the_gateway_does_not_take_either_is_counted() -> None:
    played = bench({KEY_1: ConfirmOutcome.RETURNED, QUEUE: ConfirmOutcome.RETURNED})
    await played.send((message(), entry(SID_1)))
    assert (played.count("copies_returned"), played.count("copies_fallback"), played.count("copies_lost")) == (1, 0, 1)


async def test_every_copy_of_a_returned_batch_is_counted() -> None:
    played = bench({QUEUE: ConfirmOutcome.RETURNED}, RoutingMode.GATEWAY)
    await played.send((message("1"), entry(SID_1)), (message("2"), entry(SID_1)))
    assert (played.count("copies_sent"), played.count("copies_returned"), played.count("copies_lost")) == (2, 2, 2)


async def test_who_waits_for_a_connection_is_told_when_it_is_lost() -> None:
    played = bench()
    assert await played.copies.wait_connected() is played.publisher.lost


async def test_copies_wait_for_room_in_bytes_when_the_broker_confirms_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_budget, "MAX_COPY_BYTES_IN_FLIGHT", 2_000)
    played = bench({})
    sending = asyncio.create_task(played.copies.send(0, [(message(b"x" * 1_000), entry(SID_1))] * 3))
    await eventually(lambda: len(played.publisher.open) == 1, within_s=2)
    assert [len(found) for _, _, found in played.publisher.published] == [2]
    assert not sending.done()
    played.publisher.open[0].set_result(ConfirmOutcome.CONFIRMED)
    assert len(await sending) == 2


@pytest.mark.parametrize("room", [0, 1])
async def test_a_copy_waits_when_the_bytes_in_flight_are_as_many_as_allowed(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = bench({})
    first = asyncio.create_task(played.copies.send(0, [(message(), entry(SID_1))]))
    await eventually(lambda: len(played.publisher.open) == 1, within_s=2)
    monkeypatch.setattr(copy_budget, "MAX_COPY_BYTES_IN_FLIGHT", played.held_bytes() + room)
    second = asyncio.create_task(played.copies.send(0, [(message(), entry(SID_1))]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert second.done() is bool(room)
    for each in played.publisher.open:
        each.set_result(ConfirmOutcome.CONFIRMED)
    await asyncio.gather(first, second)


async def test_while_the_broker_blocks_nobody_waits_and_gateways_are_told_afterwards() -> None:
    played = bench({})
    under_way = asyncio.create_task(played.send((message("1"), entry(SID_1))))
    await eventually(lambda: len(played.publisher.open) == 1, within_s=2)
    played.publisher.takes = False
    played.copies.closed()
    await asyncio.wait_for(under_way, 2)
    await played.send((message("2"), entry(SID_1)))
    assert (len(played.publisher.published), played.count("copies_left_out")) == (1, 1)
    played.publisher.takes = True
    played.copies.opened()
    assert played.publisher.published[1:] == [("push.broadcast", "", [])]
    played.copies.opened()
    assert len(played.publisher.published) == 2, "they are told once"


async def test_a_partition_that_waits_for_copies_goes_on_when_the_broker_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copy_budget, "MAX_COPY_BYTES_IN_FLIGHT", 1_000)
    played = bench({})
    sending = asyncio.create_task(played.send((message(b"x" * 1_000), entry(SID_1)), (message(), entry(SID_1))))
    await eventually(lambda: len(played.publisher.open) == 1, within_s=2)
    played.publisher.takes = False
    played.copies.closed()
    await asyncio.wait_for(sending, 2)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_messages_whose_copies_were_lost_with_the_connection_come_again(when: str) -> None:
    played = bench({})
    played.publisher.gone = when == "before"
    sending = asyncio.create_task(played.send((message(), entry(SID_1))))
    if when == "after":
        await eventually(lambda: len(played.publisher.open) == 1, within_s=2)
        played.publisher.open[0].set_exception(Unavailable("gone"))
    with pytest.raises(Unavailable, match="connection for copies"):
        await asyncio.wait_for(sending, 2)
    assert (played.count("copies_left_out"), played.held_bytes()) == (0, 0)
    published = len(played.publisher.published)
    played.copies.opened()
    assert len(played.publisher.published) == published, "nobody has to be told"


async def test_a_wait_for_confirms_fails_when_the_connection_is_lost() -> None:
    played = bench({})
    sending = asyncio.create_task(played.send((message(), entry(SID_1))))
    await eventually(lambda: len(played.publisher.open) == 1, within_s=2)
    played.copies.closed()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(sending, 2)


async def test_gateways_are_told_again_if_the_connection_was_lost_while_they_were_told() -> None:
    played = bench({})
    played.publisher.takes = False
    await played.send((message(), entry(SID_1)))
    played.publisher.takes = True
    played.copies.opened()
    played.publisher.open[-1].set_exception(Unavailable("gone"))
    await asyncio.sleep(0)
    played.copies.opened()
    assert played.publisher.published == [("push.broadcast", "", [])] * 2


async def test_copies_under_way_when_the_broker_blocked_count_as_left_out_if_the_connection_is_lost() -> None:
    played = bench({})
    sending = asyncio.create_task(played.send((message(), entry(SID_1))))
    await eventually(lambda: len(played.publisher.open) == 1, within_s=2)
    played.publisher.takes = False
    played.copies.closed()
    await sending
    played.publisher.takes = True
    played.publisher.open[0].set_exception(Unavailable("gone"))
    await asyncio.sleep(0)
    played.copies.opened()
    assert played.publisher.published[-1] == ("push.broadcast", "", [])


async def test_a_copy_that_amqp_cannot_carry_is_lost_and_holds_back_no_other() -> None:
    played = bench()
    played.publisher.unencodable = KEY_1
    await played.send((message(), entry(SID_1, SID_2)))
    assert played.publisher.published == [("amq.topic", KEY_2, ["hi"])]
    assert (played.count("copies_lost"), played.held_bytes()) == (1, 0)


async def test_a_session_whose_id_has_another_form_is_left_out() -> None:
    played = bench()
    appended = entry(SID_1)
    strange = b"UPPER pod.0000000000000000\n" + b"\xff" * 26 + b" pod.0000000000000000\n" + appended.sessions
    await played.send((message(reply=ReplyAddress("answers")), appended._replace(sessions=strange)))
    assert played.publisher.published == [("amq.topic", KEY_1, ["hi"])]


async def test_a_session_without_a_queue_gets_its_copy_by_its_gateway_at_once() -> None:
    copies, sessions = bench().copies, entry(SID_1).sessions
    assert [copy.exchange for copy in copies.plan(DEMO, sessions)] == ["amq.topic"]
    assert [copy.exchange for copy in copies.plan(DEMO, sessions + b" -")] == [""]


async def test_long_session_lists_are_planned_without_being_remembered() -> None:
    played = bench({})
    sids = [f"{chr(97 + n)}" * 26 for n in range(20)]
    lines = (f"{sid} {Incarnation('pod', f'{n:016x}')}" for n, sid in enumerate(sids))
    plan = played.copies.plan(DEMO, "\n".join(lines).encode())
    assert [copy.routing_key for copy in plan] == [f"demo-user{sid}" for sid in sids]
    assert played.copies._plan.cache_info().currsize == 0


RETURNED_1_AND_2 = {**ALL_CONFIRMED, KEY_1: ConfirmOutcome.RETURNED, KEY_2: ConfirmOutcome.RETURNED}


async def test_after_an_unroutable_copy_the_next_goes_to_the_gateway_at_once() -> None:
    played = bench(RETURNED_1_AND_2)
    await played.send((message("1"), entry(SID_1, SID_2)))
    del played.publisher.published[:]
    await played.send((message("2"), entry(SID_1, SID_2)), (message("3"), entry(SID_1)))
    assert played.publisher.published == [("", QUEUE, ["2", "3"]), ("", OTHER_QUEUE, ["2"])]
    assert (played.count("copies_returned"), played.count("copies_fallback")) == (2, 2)


async def test_after_a_while_a_queue_that_was_missing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "UNROUTABLE_S", 0.0)
    played = bench({**ALL_CONFIRMED, KEY_1: ConfirmOutcome.RETURNED})
    await played.send((message("1"), entry(SID_1)))
    played.publisher.outcomes[KEY_1] = ConfirmOutcome.CONFIRMED
    del played.publisher.published[:]
    await played.send((message("2"), entry(SID_1)))
    assert played.publisher.published == [("amq.topic", KEY_1, ["2"])]


async def test_a_queue_that_was_missing_is_tried_again_after_a_minute_and_not_before() -> None:
    with moved_clock() as clock:
        played = bench({**ALL_CONFIRMED, KEY_1: ConfirmOutcome.RETURNED})
        await played.send((message("1"), entry(SID_1)))
        for passes_s, tried in ((59.0, QUEUE), (1.0, KEY_1)):
            await clock.move(passes_s)
            del played.publisher.published[:]
            await played.send((message("2"), entry(SID_1)))
            assert played.publisher.published[0][1] == tried


async def test_a_queue_that_is_missing_again_is_the_newest_that_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "MAX_UNROUTABLE_KEYS", 2)
    sid_3 = "c" * 26
    with moved_clock() as clock:
        played = bench({**RETURNED_1_AND_2, f"demo-user{sid_3}": ConfirmOutcome.RETURNED})
        for sid in (SID_1, SID_2):
            await played.send((message(), entry(sid)))
        await clock.move(60)
        for sid in (SID_1, sid_3):
            await played.send((message(), entry(sid)))
        del played.publisher.published[:]
        await played.send((message(), entry(SID_1)))
        assert played.publisher.published == [("", QUEUE, ["hi"])]


async def test_one_mebibyte_of_a_partitions_copies_is_under_way_and_sixteen_of_all_partitions() -> None:
    played = bench({}, RoutingMode.GATEWAY)
    large = [(message(b"x" * MAX_BODY_BYTES), entry(SID_1))] * 20
    sending = [asyncio.create_task(played.copies.send(n, large)) for n in range(INGRESS_PARTITIONS)]
    for _ in range(5):
        await asyncio.sleep(0)
    under_way = [played.held_bytes(n) for n in range(INGRESS_PARTITIONS)]
    one_copy = len(played.publisher.bodies[0])
    assert all(1_048_576 <= each < 1_048_576 + one_copy for each in under_way)
    assert sum(map(len, played.publisher.bodies)) < 16 * (1_048_576 + one_copy)
    assert not any(each.done() for each in sending)
    for each in sending:
        await cancel(each)


async def test_a_partition_that_waits_for_its_copies_keeps_no_other_partition_waiting() -> None:
    played = bench({QUEUE: ConfirmOutcome.CONFIRMED})
    hot = [(message(b"x" * MAX_BODY_BYTES, "hot"), entry(SID_2))] * 40
    waiting = asyncio.create_task(played.copies.send(3, hot))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.wait_for(played.copies.send(4, [(message("2"), entry(SID_1))]), 2)
    await eventually(lambda: ("amq.topic", KEY_1, ["2"]) in played.publisher.published, within_s=2)
    assert not waiting.done()
    await cancel(waiting)


async def test_copies_that_several_partitions_have_in_one_message_are_given_back_to_each() -> None:
    played = bench({}, RoutingMode.GATEWAY)
    sends = [
        asyncio.create_task(played.send((message("x" * 10 * n, f"user{n}"), entry(SID_1)), partition=n))
        for n in range(3)
    ]
    await eventually(lambda: played.publisher.open, within_s=2)
    (body,) = played.publisher.bodies
    assert played.held_bytes(0) < played.held_bytes(1) < played.held_bytes(2)
    assert sum(map(played.held_bytes, range(3))) == len(body) - 1
    played.publisher.open[0].set_result(ConfirmOutcome.CONFIRMED)
    await asyncio.gather(*sends)
    assert [played.held_bytes(n) for n in range(3)] == [0, 0, 0]


async def test_a_user_with_many_sessions_at_one_gateway_costs_one_copy() -> None:
    played = bench()
    sids = [f"{chr(97 + n)}" * 26 for n in range(20) if n != 1]
    await played.send((message("1"), entry(*sids)), (message("2"), entry(*sids)))
    assert played.publisher.published == [("", QUEUE, ["1", "2"])]
    assert played.count("copies_sent") == 2


async def test_one_missing_queue_more_than_is_remembered_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "MAX_UNROUTABLE_KEYS", 1)
    played = bench(RETURNED_1_AND_2)
    await played.send((message("1"), entry(SID_1)))
    await played.send((message("2"), entry(SID_2)))
    del played.publisher.published[:]
    await played.send((message("3"), entry(SID_2)))
    await played.send((message("4"), entry(SID_1)))
    assert played.publisher.published == [("", OTHER_QUEUE, ["3"]), ("amq.topic", KEY_1, ["4"]), ("", QUEUE, ["4"])]
