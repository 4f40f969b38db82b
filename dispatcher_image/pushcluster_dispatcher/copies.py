"""Copies of appended messages for the gateways (step D4). The log has every message; a copy only makes it fast."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pika.spec import BasicProperties

from pushcluster_contract.headers import COPY_DESTINATION, COPY_EXPIRES_MS, COPY_ID, COPY_USER
from pushcluster_contract.routing import Copy, RoutingMode, plan_copies
from pushcluster_dispatcher.log_entries import Appended
from pushcluster_dispatcher.parse import Message
from pushcluster_dispatcher.ports import Publisher
from pushcluster_runtime.amqp import Outcome

MAX_COPIES_IN_FLIGHT: Final = 2_000
"""A partition's copies that the broker has not confirmed yet; the next one waits for the oldest."""
MAX_COPY_BYTES_IN_FLIGHT: Final = 4 * 1_048_576
"""A partition's bodies among them: what a broker that has stopped reading can pile up here."""
TRANSIENT: Final = 1
"""AMQP's delivery mode: a copy that a broker loses is found by the gateway's next look at the log."""


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """What became of the copies of one batch."""

    sent: int
    returned: int
    """No queue took it: the session has just left, or has no queue in this mode."""
    fallback: int
    """Returned ones that the gateway's own queue took."""
    lost: int
    """Taken by nobody; the client gets the message from the log."""


@dataclass(frozen=True, slots=True)
class SentCopy:
    """A copy that was handed to the broker."""

    copy: Copy
    body: bytes
    properties: BasicProperties
    outcome: asyncio.Future[Outcome]


class Copies:
    """Sends copies over one channel and sees each of them to its end."""

    def __init__(self, channel: Publisher, mode: RoutingMode) -> None:
        self._channel = channel
        self._mode = mode
        self._window: deque[SentCopy] = deque()
        self._window_bytes = 0

    async def send(self, appended: Iterable[tuple[Message, Appended]]) -> list[SentCopy]:
        """Publish the copies of a batch in the order of the log; waits only for room. Raises Unavailable."""
        sent: list[SentCopy] = []
        for message, entry in appended:
            plan = plan_copies(self._mode, message.destination, entry.sessions)
            if plan:
                properties = _build_properties(message, entry)
                sent += [await self._publish(copy, message.body, properties) for copy in plan]
        return sent

    async def settle(self, sent: list[SentCopy]) -> CopyCounts:
        """Wait for the fate of every copy; one that no queue took goes to its fallback, once. Raises Unavailable."""
        returned = [each for each in sent if await each.outcome is not Outcome.CONFIRMED]
        retried = [
            await self._publish(each.copy.fallback, each.body, each.properties)
            for each in returned
            if each.copy.fallback is not None
        ]
        fallback = sum([await each.outcome is Outcome.CONFIRMED for each in retried])
        return CopyCounts(len(sent), len(returned), fallback, len(returned) - fallback)

    async def _publish(self, copy: Copy, body: bytes, properties: BasicProperties) -> SentCopy:
        while len(self._window) >= MAX_COPIES_IN_FLIGHT or self._window_bytes >= MAX_COPY_BYTES_IN_FLIGHT:
            oldest = self._window.popleft()
            await oldest.outcome
            self._window_bytes -= len(oldest.body)
        outcome = self._channel.publish(copy.exchange, copy.routing_key, body, properties, mandatory=True)
        sent = SentCopy(copy, body, properties, outcome)
        self._window.append(sent)
        self._window_bytes += len(body)
        return sent


def _build_properties(message: Message, entry: Appended) -> BasicProperties:
    headers: dict[str, Any] = {
        COPY_ID: entry.stream_id,
        COPY_USER: message.user,
        COPY_DESTINATION: str(message.destination),
    }
    if entry.expires_ms:
        headers[COPY_EXPIRES_MS] = entry.expires_ms
    if message.headers:
        headers.update(message.headers)
    return BasicProperties(
        content_type=message.content_type or None,
        message_id=message.message_id or None,
        delivery_mode=TRANSIENT,
        headers=headers,
    )
