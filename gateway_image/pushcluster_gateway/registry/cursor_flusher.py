"""Flushes cursors to the registry: once a second, many in one round trip, and before a SUBSCRIBE."""

import asyncio
import logging
from collections.abc import Iterable
from itertools import islice
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import StreamId
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry.store import CursorMove, SessionRegistry
from pushcluster_gateway.session.subscription import Subscription

FLUSH_INTERVAL_S: Final = 1.0
MAX_MOVES: Final = 500
"""Cursors that one round trip flushes."""
COLLECTED_AT_ONCE: Final = 200
"""Subscriptions whose cursors are taken in one tick of the event loop. Each may be a system call."""
COLLECTED_BEFORE_SUBSCRIBE: Final = 64
"""Subscriptions to the same destination whose cursors are taken before a new one begins: one for each session that a
user has by default. A user can have 2,048, and could else stop the event loop by subscribing again and again."""

_log = logging.getLogger(__name__)

_Key = tuple[str, Destination]
_Ids = tuple[StreamId, StreamId]
"""Cursor and `sent`."""


class CursorFlusher:
    """Holds the cursors to flush: at most one for each user and destination, even while Redis is down."""

    def __init__(self, registry: SessionRegistry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._moved: dict[Subscription, None] = {}  # used as an ordered set
        self._pending: dict[_Key, _Ids] = {}
        self._under_way: dict[_Key, _Ids] = {}
        """The cursors in the running round trip."""
        self._lock = asyncio.Lock()

    def schedule(self, subscription: Subscription) -> None:
        """Note that the subscription's cursor has moved, so that it is flushed."""
        subscription.flush_scheduled = True
        self._moved[subscription] = None

    def collect(self, subscription: Subscription) -> None:
        """Take the subscription's cursor now. The subscription may end afterwards."""
        subscription.flush_scheduled = False
        self._moved.pop(subscription, None)
        move = subscription.cursor_to_flush()
        if move is not None:
            self._keep(subscription.client.user, subscription.destination, *move)

    async def run(self) -> None:
        """Flush once a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self._collect_all()
            try:
                await self.flush()
            except Unavailable as error:
                self._metrics.redis_errors += 1
                _log.warning(
                    "cursors were not flushed: Redis is unavailable, they are kept",
                    extra={"cause": str(error), "cursors": len(self._pending)},
                )

    async def flush(self) -> None:
        """Flush all collected cursors. Raise Unavailable; then, and when cancelled, the cursors are kept."""
        async with self._lock:
            while self._pending:
                self._under_way = {key: self._pending.pop(key) for key in list(islice(self._pending, MAX_MOVES))}
                try:
                    await self._registry.advance_cursors(
                        [CursorMove(*key, *ids) for key, ids in self._under_way.items()]
                    )
                except (Unavailable, asyncio.CancelledError):
                    # Redis may have applied them. Sending them again does no harm, because a cursor never moves back.
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
        """Flush the cursor of one destination at once. Raise Unavailable.

        This happens before a new subscription reads the cursor. Else the new one would begin with what was written in
        the last second, without `redelivered:true`. `subscriptions` are the existing ones to the destination.
        Of very many, only some are asked: then that may happen.
        """
        for subscription in islice(subscriptions, COLLECTED_BEFORE_SUBSCRIBE):
            if subscription.flush_scheduled:
                self._collect_again(subscription)
        key = user, destination
        known = [moves[key] for moves in (self._pending, self._under_way) if key in moves]
        if known:
            # The cursor stays here and is flushed again. That does no harm, because a cursor never moves back.
            cursor, sent = (max(ids) for ids in zip(*known, strict=True))
            await self._registry.advance_cursor(CursorMove(user, destination, cursor, sent))

    async def _collect_all(self) -> None:
        """Take the cursors of all subscriptions that have moved. Messages are pushed in between."""
        for number, subscription in enumerate(list(self._moved), start=1):
            if subscription.flush_scheduled:  # it may have been collected meanwhile
                self._collect_again(subscription)
            if number % COLLECTED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _collect_again(self, subscription: Subscription) -> None:
        self.collect(subscription)
        if subscription.has_unflushed and not subscription.ended:
            self.schedule(subscription)

    def _keep(self, user: str, destination: Destination, cursor: StreamId, sent: StreamId) -> None:
        known_cursor, known_sent = self._pending.get((user, destination), (cursor, sent))
        self._pending[user, destination] = (max(cursor, known_cursor), max(sent, known_sent))
