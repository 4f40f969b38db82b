"""How many bytes of copies a partition may have under way."""

import asyncio

from pushcluster_dispatcher.egress.copy_budget import MAX_COPY_BYTES_IN_FLIGHT, CopyBudget

TURNS = 5
"""Turns of the event loop in which whoever was woken goes on."""


async def turn() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_each_wait_needs_room_of_its_own() -> None:
    budget = CopyBudget()
    budget.take(MAX_COPY_BYTES_IN_FLIGHT)
    for _ in range(2):
        waiting = asyncio.create_task(budget.wait())
        await turn()
        assert not waiting.done(), "room that there once was is used up"
        budget.release(1)
        await turn()
        assert waiting.done()
        budget.take(1)


async def test_room_for_one_byte_ends_the_wait_and_less_does_not() -> None:
    budget = CopyBudget()
    budget.take(MAX_COPY_BYTES_IN_FLIGHT + 7)
    waiting = asyncio.create_task(budget.wait())
    await turn()
    budget.release(7)
    await turn()
    assert (budget.is_used_up, waiting.done()) == (True, False)
    budget.release(1)
    await turn()
    assert (budget.is_used_up, waiting.done()) == (False, True)
    assert budget.held_bytes == MAX_COPY_BYTES_IN_FLIGHT - 1


async def test_a_wait_ends_without_room_when_it_is_told_to() -> None:
    budget = CopyBudget()
    budget.take(MAX_COPY_BYTES_IN_FLIGHT)
    waiting = asyncio.create_task(budget.wait())
    await turn()
    budget.wake()
    await turn()
    assert (budget.is_used_up, waiting.done()) == (True, True)
