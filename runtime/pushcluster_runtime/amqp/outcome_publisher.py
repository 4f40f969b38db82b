"""Sending outcomes to the producers who asked: nobody waits for it, and what cannot be sent is not heard of."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.outcomes import REPORT_CONTENT_TYPE, REPORT_TYPE, OutcomeReport, ReplyAddress
from pushcluster_contract.routing import DEFAULT_EXCHANGE
from pushcluster_runtime.amqp.confirms import ConfirmOutcome

MAX_IN_FLIGHT: Final = 5_000
"""Outcomes that the broker has not confirmed; further ones are dropped while there are so many."""
TRANSIENT: Final = 1


class Channel(Protocol):
    """What they are published on (`AmqpChannel`)."""

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[ConfirmOutcome]:
        """Publish, and tell the outcome later."""


class Source(Protocol):
    """Where to get it from (`Outlet`)."""

    @property
    def channel(self) -> Channel | None:
        """The channel to publish on; None while the broker takes nothing."""


class OutcomePublisher:
    """Sends outcomes through the default exchange."""

    def __init__(self, source: Source, *, on_sent: Callable[[], None], on_dropped: Callable[[], None]) -> None:
        self._source = source
        self._on_sent = on_sent
        self._on_dropped = on_dropped
        self._in_flight = 0

    def tell(self, address: ReplyAddress, report: OutcomeReport) -> None:
        """Send one. Not mandatory: a reply queue that is gone costs nothing."""
        channel = self._source.channel
        if channel is None or self._in_flight >= MAX_IN_FLIGHT:
            self._on_dropped()
            return
        properties = BasicProperties(
            type=REPORT_TYPE,
            content_type=REPORT_CONTENT_TYPE,
            correlation_id=address.correlation_id or None,
            delivery_mode=TRANSIENT,
        )
        try:
            sent = channel.publish(DEFAULT_EXCHANGE, address.queue, report.encode(), properties, mandatory=False)
        except (Unavailable, InvalidInput):
            self._on_dropped()
            return
        self._in_flight += 1
        sent.add_done_callback(self._on_outcome)

    def _on_outcome(self, sent: asyncio.Future[ConfirmOutcome]) -> None:
        self._in_flight -= 1
        failed = sent.cancelled() or sent.exception() is not None
        (self._on_dropped if failed else self._on_sent)()
