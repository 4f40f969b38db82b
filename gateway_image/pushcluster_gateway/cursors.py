"""Flushing cursors to the registry: at most once a second a subscription, many in one round trip (step G7)."""

import asyncio
import logging
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import StreamId
from pushcluster_gateway.client_subscription import ClientSubscription
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry import CursorMove, Registry

FLUSH_INTERVAL_S: Final = 1.0
MAX_MOVES: Final = 500
"""Cursors in one round trip."""

_log = logging.getLogger(__name__)


class CursorFlusher:
    """What the registry has not been told yet: at most one entry a user's destination, also while Redis is away."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._moved: dict[ClientSubscription, None] = {}  # a set that keeps its order
        self._pending: dict[tuple[str, Destination], tuple[StreamId, StreamId]] = {}
        self._lock = asyncio.Lock()

    def mark(self, subscription: ClientSubscription) -> None:
        """The subscription has got further."""
        subscription.marked = True
        self._moved[subscription] = None

    def collect(self, subscription: ClientSubscription) -> None:
        """Take what a subscription has got so far; it may be gone afterwards."""
        subscription.marked = False
        self._moved.pop(subscription, None)
        move = subscription.cursor_to_flush()
        if move is not None:
            self._keep(subscription.client.user, subscription.destination, *move)

    async def run(self) -> None:
        """Flush once a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            for subscription in list(self._moved):
                self.collect(subscription)
                if subscription.has_unflushed and not subscription.ended:
                    self.mark(subscription)
            try:
                await self.flush()
            except Unavailable as error:
                self._metrics.redis_errors += 1
                _log.warning("cursors wait for Redis", extra={"cause": str(error), "cursors": len(self._pending)})
            except Exception:
                _log.exception("cursors were not flushed")

    async def flush(self) -> None:
        """Tell the registry everything that was collected. Raises Unavailable; then it is kept."""
        async with self._lock:
            while self._pending:
                batch = [(key, self._pending.pop(key)) for key in list(self._pending)[:MAX_MOVES]]
                moves = [CursorMove(user, destination, *ids) for (user, destination), ids in batch]
                try:
                    await self._registry.advance_cursors(moves)
                except Unavailable:
                    for move in moves:
                        self._keep(move.user, move.destination, move.cursor, move.sent)
                    raise

    def _keep(self, user: str, destination: Destination, cursor: StreamId, sent: StreamId) -> None:
        known_cursor, known_sent = self._pending.get((user, destination), (cursor, sent))
        self._pending[user, destination] = (max(cursor, known_cursor), max(sent, known_sent))
