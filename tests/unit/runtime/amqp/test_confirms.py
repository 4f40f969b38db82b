import asyncio
import gc
from typing import Any

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_runtime.amqp.confirms import ConfirmOutcome, Confirms


def publish(confirms: Confirms, count: int) -> list[asyncio.Future[ConfirmOutcome]]:
    futures: list[asyncio.Future[ConfirmOutcome]] = [asyncio.get_running_loop().create_future() for _ in range(count)]
    for future in futures:
        confirms.add(future)
    return futures


async def test_a_multiple_ack_confirms_every_publish_up_to_its_number() -> None:
    confirms = Confirms()
    futures = publish(confirms, 4)
    confirms.settle(3, multiple=True, outcome=ConfirmOutcome.CONFIRMED)
    assert [future.done() for future in futures] == [True, True, True, False]


async def test_a_single_ack_leaves_older_publishes_waiting() -> None:
    confirms = Confirms()
    futures = publish(confirms, 3)
    confirms.settle(2, multiple=False, outcome=ConfirmOutcome.CONFIRMED)
    assert [future.done() for future in futures] == [False, True, False]
    confirms.settle(3, multiple=True, outcome=ConfirmOutcome.NACKED)
    assert [future.result() for future in futures] == [
        ConfirmOutcome.NACKED,
        ConfirmOutcome.CONFIRMED,
        ConfirmOutcome.NACKED,
    ]


async def test_a_returned_publish_is_told_as_returned_when_its_ack_arrives() -> None:
    confirms = Confirms()
    first, second = publish(confirms, 2)
    confirms.mark_returned(2)
    assert not second.done()
    confirms.settle(2, multiple=True, outcome=ConfirmOutcome.CONFIRMED)
    assert (first.result(), second.result()) == (ConfirmOutcome.CONFIRMED, ConfirmOutcome.RETURNED)


async def test_a_return_does_not_hide_a_nack() -> None:
    confirms = Confirms()
    (future,) = publish(confirms, 1)
    confirms.mark_returned(1)
    confirms.settle(1, multiple=False, outcome=ConfirmOutcome.NACKED)
    assert future.result() is ConfirmOutcome.NACKED


async def test_a_return_of_a_number_that_nobody_waits_for_changes_nothing() -> None:
    confirms = Confirms()
    confirms.mark_returned(1)
    (future,) = publish(confirms, 1)
    confirms.settle(1, multiple=False, outcome=ConfirmOutcome.CONFIRMED)
    assert future.result() is ConfirmOutcome.CONFIRMED


async def test_a_confirm_for_a_publisher_that_has_left_is_no_error() -> None:
    confirms = Confirms()
    first, second = publish(confirms, 2)
    first.cancel()
    confirms.settle(2, multiple=True, outcome=ConfirmOutcome.CONFIRMED)
    assert second.result() is ConfirmOutcome.CONFIRMED
    assert len(confirms) == 0


async def test_a_lost_channel_fails_everything_that_waits() -> None:
    confirms = Confirms()
    confirmed, waiting = publish(confirms, 2)
    confirms.settle(1, multiple=False, outcome=ConfirmOutcome.CONFIRMED)
    confirms.fail(Unavailable("gone"))
    assert confirmed.result() is ConfirmOutcome.CONFIRMED
    with pytest.raises(Unavailable, match="gone"):
        await waiting


async def test_a_return_is_forgotten_with_its_publish() -> None:
    confirms = Confirms()
    publish(confirms, 3)
    for number in (1, 2):
        confirms.mark_returned(number)
    confirms.settle(1, multiple=False, outcome=ConfirmOutcome.CONFIRMED)
    assert confirms._returned == {2}
    confirms.fail(Unavailable("gone"))
    assert confirms._returned == set()


async def test_nobody_has_to_collect_the_failure_of_a_publish() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    confirms = Confirms()
    publish(confirms, 1)
    confirms.fail(Unavailable("gone"))
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_publishes_are_numbered_from_one_as_the_broker_numbers_them() -> None:
    confirms = Confirms()
    assert (confirms.next_number, len(confirms)) == (1, 0)
    publish(confirms, 2)
    assert (confirms.next_number, len(confirms)) == (3, 2)


class LooksCounted(dict[int, asyncio.Future[ConfirmOutcome]]):
    looks = 0

    def pop(self, *arguments: Any) -> Any:
        self.looks += 1
        return super().pop(*arguments)


async def test_a_multiple_ack_looks_only_at_what_no_multiple_ack_has_settled_before() -> None:
    confirms = Confirms()
    confirms._waiting = waiting = LooksCounted()
    futures = publish(confirms, 6)
    looks = []
    for number in (3, 4, 2, 6):
        confirms.settle(number, multiple=True, outcome=ConfirmOutcome.CONFIRMED)
        looks.append(waiting.looks)
    assert looks == [3, 4, 4, 6], "else a channel becomes slower with every publish"
    assert all(future.done() for future in futures)
