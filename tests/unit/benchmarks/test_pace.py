"""When a publisher publishes."""

import asyncio
import time

from benchmarks.pace import LAST_S, wait_until


async def test_it_never_returns_before_the_time() -> None:
    for wait_s in (-1.0, 0.0, LAST_S / 2, 3 * LAST_S):
        when = time.monotonic() + wait_s
        await wait_until(when)
        assert time.monotonic() >= when


async def test_others_get_a_turn_even_when_the_time_is_past() -> None:
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await wait_until(time.monotonic() - 1)
    assert turns == [1]
