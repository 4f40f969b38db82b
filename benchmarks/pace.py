"""When a publisher publishes: at the planned time of each message, and not up to a tick of the event loop later."""

import asyncio
import time
from typing import Final

LAST_S: Final = 0.002
"""The last part of a wait blocks the thread, because the event loop's own timers are a millisecond and more late."""


async def wait_until(when: float) -> None:
    """Return at this time of `time.monotonic`, or at once if it is past. The event loop gets at least one turn.

    Only for a process that publishes and does nothing else.
    """
    await asyncio.sleep(max(0.0, when - time.monotonic() - LAST_S))
    rest_s = when - time.monotonic()
    if rest_s > 0:
        time.sleep(rest_s)  # noqa: ASYNC251 - see LAST_S
