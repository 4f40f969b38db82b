"""Copies messages that clients refuse by NACK to `push.refused`, so many of each user."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.refusal_quota import CopyGrant, RefusalQuota

COPIES_IN_FLIGHT: Final = 32
"""Copies of all users that are made at once. Each holds a message until the broker confirms it; others wait without."""

_log = logging.getLogger(__name__)


class RefusedMessages:
    """All copies of one gateway."""

    def __init__(
        self,
        registry: SessionRegistry,
        broker: BrokerLink,
        *,
        limits: Limits,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._broker = broker
        self._metrics = metrics
        self._clock = clock
        self._slots = asyncio.Semaphore(COPIES_IN_FLIGHT)
        self._quota = RefusalQuota(burst=limits.max_refused_copies, per_s=limits.refused_copies_per_s)

    async def copy(self, client: Client, destination: Destination, message_id: StreamId) -> None:
        """Return when the copy is safe, or when the message gets none. Raise Unavailable."""
        grant = self._quota.take(client.user, self._clock())
        if grant is not CopyGrant.GRANTED:
            self._metrics.refusals_not_copied += 1
            if grant is CopyGrant.FIRST_DENIED:
                _log.warning(
                    "a client refuses more messages than are copied to push.refused", extra={"session": client.sid}
                )
            return
        async with self._slots:
            await self._copy(client, destination, message_id)

    async def _copy(self, client: Client, destination: Destination, message_id: StreamId) -> None:
        entry = await self._registry.read_entry(client.user, destination, message_id)
        if entry is None:
            _log.warning(
                "a message that the client refused has left the log: push.refused does not get it",
                extra={"message_id": str(message_id)},
            )
            return
        await self._broker.put_refused(client.user, destination, entry)
        self._metrics.messages_rejected += 1
