"""Malformed messages: what they look like in `push.rejected`, and how they get there (step D1)."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.headers import REJECT_REASON, REJECT_USER
from pushcluster_contract.topology import REJECTED_EXCHANGE
from pushcluster_dispatcher.egress.interfaces import Publisher
from pushcluster_dispatcher.messages import Rejection
from pushcluster_runtime.amqp.confirms import SEQUENCE_HEADER
from pushcluster_runtime.amqp.connection import ConfirmOutcome, Delivery

MAX_HEADER_BYTES: Final = 65_536
"""The producer's own headers; properties and all must fit into one frame (131,072 bytes)."""
MAX_REASON_CHARS: Final = 500
PERSISTENT: Final = 2
ROUTING_KEY: Final = ""
"""A fan-out exchange reads no routing key; the user's id stands in a header, where it may be anything."""

_ROUTING_HEADERS: Final = frozenset({"CC", "BCC", SEQUENCE_HEADER})
"""The broker would act on the first two once more; the third is ours."""


class RejectConnection(Protocol):
    """Where they go (`runtime.amqp_outlet.Outlet`)."""

    async def open_channel(self) -> Publisher:
        """Return a channel, waiting for one if need be."""


class RejectPublisher:
    """Puts messages aside. Nothing bounds them here: what is not put aside is not acknowledged either."""

    def __init__(self, publisher: RejectConnection) -> None:
        self._publisher = publisher

    async def put(self, delivery: Delivery, rejection: Rejection) -> None:
        """Return once the message stands in `push.rejected`, however often the connection is lost meanwhile.

        Raises Unavailable when the broker answers that it does not take it there.
        """
        while True:
            channel = await self._publisher.open_channel()
            try:
                outcome = await _publish(channel, delivery, rejection)
            except Unavailable:
                await asyncio.wait([channel.lost])
                continue
            if outcome is not ConfirmOutcome.CONFIRMED:
                raise Unavailable(f"{REJECTED_EXCHANGE} does not take a rejected message")
            return


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

    Left out are `expiration` (it must not vanish here), `user_id` (the broker compares it with who publishes),
    `reply_to` (the dispatcher has answered) and, past MAX_HEADER_BYTES or when `bare`, the producer's headers.
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
    """Return about how many bytes the headers take; the representation is never much shorter than the encoding."""
    return sum(len(repr(name)) + len(repr(value)) + 16 for name, value in headers.items())


def _printable(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
