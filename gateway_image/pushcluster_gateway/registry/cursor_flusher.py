"""Flushing cursors to the registry: once a second, many in one round trip, and before a SUBSCRIBE (step G7)."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import StreamId
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry.store import CursorMove, SessionRegistry
from pushcluster_gateway.session.subscription import Subscription

FLUSH_INTERVAL_S: Final = 1.0
MAX_MOVES: Final = 500
"""Cursors in one round trip."""

_log = logging.getLogger(__name__)

_Key = tuple[str, Destination]
_Ids = tuple[StreamId, StreamId]
"""Cursor and `sent`."""


class CursorFlusher:
    """What the registry has not been told yet: at most one entry a user's destination, also while Redis is away."""

    def __init__(self, registry: SessionRegistry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._moved: dict[Subscription, None] = {}  # a set that keeps its order
        self._pending: dict[_Key, _Ids] = {}
        self._under_way: dict[_Key, _Ids] = {}
        """What the round trip that is under way tells."""
        self._lock = asyncio.Lock()

    def schedule(self, subscription: Subscription) -> None:
        """The subscription has got further."""
        subscription.flush_scheduled = True
        self._moved[subscription] = None

    def collect(self, subscription: Subscription) -> None:
        """Take what a subscription has got so far; it may be gone afterwards."""
        subscription.flush_scheduled = False
        self._moved.pop(subscription, None)
        move = subscription.cursor_to_flush()
        if move is not None:
            self._keep(subscription.client.user, subscription.destination, *move)

    async def run(self) -> None:
        """Flush once a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            for subscription in list(self._moved):
                self._collect_again(subscription)
            try:
                await self.flush()
            except Unavailable as error:
                self._metrics.redis_errors += 1
                _log.warning("cursors wait for Redis", extra={"cause": str(error), "cursors": len(self._pending)})

    async def flush(self) -> None:
        """Tell the registry everything that was collected. Raises Unavailable; then, and if cancelled, it is kept."""
        async with self._lock:
            while self._pending:
                self._under_way = {key: self._pending.pop(key) for key in list(self._pending)[:MAX_MOVES]}
                try:
                    await self._registry.advance_cursors(
                        [CursorMove(*key, *ids) for key, ids in self._under_way.items()]
                    )
                except (Unavailable, asyncio.CancelledError):
                    # Redis may have taken them all the same: no harm, as neither goes back.
                    for key, ids in self._under_way.items():
                        self._keep(*key, *ids)
                    raise
                except Exception:
                    _log.exception("cursors were not flushed")
                finally:
                    self._under_way = {}

    async def flush_destination(
        self, user: str, destination: Destination, subscriptions: Iterable[Subscription]
    ) -> None:
        """Tell the registry what is known of one destination, at once: a subscription is about to begin behind it.

        Else it would begin with what was written in the last second, and not say that it comes again. `standing` are
        the subscriptions to it. Raises Unavailable.
        """
        for subscription in subscriptions:
            if subscription.flush_scheduled:
                self._collect_again(subscription)
        key = user, destination
        known = [moves[key] for moves in (self._pending, self._under_way) if key in moves]
        if known:
            # It stays where it is, and is told again: no harm, as neither goes back.
            cursor, sent = (max(ids) for ids in zip(*known, strict=True))
            await self._registry.advance_cursor(CursorMove(user, destination, cursor, sent))

    def _collect_again(self, subscription: Subscription) -> None:
        self.collect(subscription)
        if subscription.has_unflushed and not subscription.ended:
            self.schedule(subscription)

    def _keep(self, user: str, destination: Destination, cursor: StreamId, sent: StreamId) -> None:
        known_cursor, known_sent = self._pending.get((user, destination), (cursor, sent))
        self._pending[user, destination] = (max(cursor, known_cursor), max(sent, known_sent))
