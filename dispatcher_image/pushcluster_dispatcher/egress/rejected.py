"""Send malformed messages to `push.rejected`."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.headers import REJECT_REASON, REJECT_USER
from pushcluster_contract.topology import REJECTED_EXCHANGE, Topology, build_publish_targets
from pushcluster_dispatcher.egress.interfaces import Publisher
from pushcluster_dispatcher.log.interfaces import Sleep
from pushcluster_dispatcher.messages import Rejection
from pushcluster_runtime.amqp import ConfirmOutcome, Delivery
from pushcluster_runtime.amqp.confirms import SEQUENCE_HEADER

MAX_HEADER_BYTES: Final = 65_536
"""Limit for the producer's own headers. All properties together must fit into one frame (131,072 bytes)."""
MAX_REASON_CHARS: Final = 500
TRY_AGAIN_S: Final = 1.0
"""How long a message waits that the broker did not take."""
PERSISTENT: Final = 2
ROUTING_KEY: Final = ""
"""A fan-out exchange ignores the routing key. The user's id is in a header, which may hold any value."""

_ROUTING_HEADERS: Final = frozenset({"CC", "BCC", SEQUENCE_HEADER})
"""The broker would act on the first two again. The third is the dispatcher's own."""


_log = logging.getLogger(__name__)


class RejectChannel(Publisher, Protocol):
    """The channel for rejected messages (`AmqpChannel`)."""

    async def declare(self, topology: Topology) -> None:
        """Declare what may be missing. Raise Unavailable."""


class RejectConnection(Protocol):
    """The connection for rejected messages (`PublisherConnection`)."""

    async def wait_writable(self) -> RejectChannel:
        """Return a channel. Wait until the broker takes messages."""


class RejectPublisher:
    """Sends messages to `push.rejected`. No limit is needed: a message is acknowledged only after that."""

    def __init__(self, publisher: RejectConnection, *, sleep: Sleep = asyncio.sleep) -> None:
        self._publisher = publisher
        self._sleep = sleep

    async def put(self, delivery: Delivery, rejection: Rejection) -> None:
        """Return once the message is in `push.rejected`. Publish again until the broker has taken it.

        An error would end the session, and what it has appended without a message id would be appended again each time.
        """
        refused = False
        while True:
            channel = await self._publisher.wait_writable()
            try:
                outcome = await _publish(channel, delivery, rejection)
                if outcome is ConfirmOutcome.RETURNED:
                    await channel.declare(build_publish_targets())  # somebody has deleted the queue
            except Unavailable:
                await asyncio.wait([channel.lost])
                continue
            if outcome is ConfirmOutcome.CONFIRMED:
                return
            if not refused:
                refused = True
                _log.warning(
                    "push.rejected does not take a message; it is tried again", extra={"outcome": outcome.name}
                )
            await self._sleep(TRY_AGAIN_S)


def _publish(channel: Publisher, delivery: Delivery, rejection: Rejection) -> asyncio.Future[ConfirmOutcome]:
    def publish(*, bare: bool) -> asyncio.Future[ConfirmOutcome]:
        properties = build_rejected(delivery, rejection, bare=bare)
        return channel.publish(REJECTED_EXCHANGE, ROUTING_KEY, delivery.body, properties, mandatory=True)

    try:
        return publish(bare=False)
    except (InvalidInput, RecursionError):  # headers that could be read and cannot be written again
        return publish(bare=True)


def build_rejected(delivery: Delivery, rejection: Rejection, *, bare: bool = False) -> BasicProperties:
    """Return the producer's properties with the reason added.

    These are left out: `expiration`, because the message must not expire here; `user_id`, because the broker compares
    it with the publisher; `reply_to`, because the dispatcher has answered. The producer's headers are left out when
    they take more than MAX_HEADER_BYTES, or when `bare`.
    """
    old = delivery.properties
    headers: dict[str, Any] = {}
    reason = rejection.reason[:MAX_REASON_CHARS]
    original = {name: _writable(value) for name, value in (old.headers or {}).items() if name not in _ROUTING_HEADERS}
    if bare or _size(original) > MAX_HEADER_BYTES:
        reason += f" ({len(original)} headers left out)"
    else:
        headers.update(original)
    headers[REJECT_REASON] = reason
    headers[REJECT_USER] = _printable(delivery.routing_key)
    return BasicProperties(
        content_type=_text_or_none(old.content_type),
        content_encoding=_text_or_none(old.content_encoding),
        message_id=_text_or_none(old.message_id),
        correlation_id=_text_or_none(old.correlation_id),
        type=_text_or_none(old.type),
        app_id=_text_or_none(old.app_id),
        timestamp=old.timestamp,
        delivery_mode=PERSISTENT,
        headers=headers,
    )


def _writable(value: object) -> object:
    return repr(value) if isinstance(value, float) else value  # pika writes no floats


def _size(headers: Mapping[str, Any]) -> int:
    """Return about how many bytes the headers take. Their `repr` is never much shorter than the encoding."""
    return sum(len(repr(name)) + len(repr(value)) + 16 for name, value in headers.items())


def _printable(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
