"""Close the connections of a gateway that stops: paced and jittered, so that clients do not all reconnect at once."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pushcluster_contract.limits import ENDPOINTS_UPDATE_S
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.server import WebSocketServer

UNPACED_CONNECTIONS: Final = 50
"""Up to this many connections are closed at once, without pacing."""
CLOSES_PER_S: Final = 200
"""The normal pace. It is faster when `max_seconds` is too short for it."""
BATCH_S: Final = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DrainBatch:
    """Close this many connections, then wait."""

    count: int
    then_wait_s: float


def plan_drain(connections: int, max_seconds: float, random: Callable[[], float]) -> list[DrainBatch]:
    """Return the batches in which to close `connections` within `max_seconds`."""
    if connections <= UNPACED_CONNECTIONS or max_seconds <= 0:
        return [DrainBatch(connections, 0.0)] if connections else []
    duration_s = min(max_seconds, connections / CLOSES_PER_S)
    steps = max(1, int(duration_s / BATCH_S))
    # Each pause is drawn from half of its share up to all of it, so the sum stays within the time.
    pauses = [BATCH_S * (0.5 + random() / 2) for _ in range(steps)]
    bounds = [connections * step // steps for step in range(steps + 1)]
    return [DrainBatch(bounds[n + 1] - bounds[n], pause) for n, pause in enumerate(pauses)]


async def drain(server: WebSocketServer, *, limits: Limits, max_seconds: float, random: Callable[[], float]) -> None:
    """Close every connection. Return when all sockets are gone."""
    server.draining = True
    if server.sockets:
        await asyncio.sleep(ENDPOINTS_UPDATE_S)
    open_ones = list(server.connections)
    _log.info("draining", extra={"connections": len(open_ones), "max_seconds": max_seconds})
    for batch in plan_drain(len(open_ones), max_seconds, random):
        for _ in range(batch.count):
            open_ones.pop().close(close_codes.DRAINING)
        await asyncio.sleep(batch.then_wait_s)
    await server.wait_empty(within_s=limits.close_timeout_s)
    await server.close()
