"""Send outcomes to the producers who asked for them. Nobody waits for that, and what cannot be sent is dropped."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.outcomes import REPORT_CONTENT_TYPE, REPORT_TYPE, OutcomeReport, ReplyAddress
from pushcluster_contract.routing import DEFAULT_EXCHANGE
from pushcluster_runtime.amqp.confirms import ConfirmOutcome

MAX_IN_FLIGHT: Final = 5_000
"""How many outcomes may wait for the broker's confirm. Further ones are dropped."""
TRANSIENT: Final = 1


class Channel(Protocol):
    """The channel that outcomes are published on (`AmqpChannel`)."""

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[ConfirmOutcome]:
        """Publish. The future tells later what the broker did with it."""


class Source(Protocol):
    """What has the channel (`PublisherConnection`)."""

    @property
    def channel(self) -> Channel | None:
        """The channel to publish on. None while the broker takes no messages."""


class OutcomePublisher:
    """Publishes outcomes to the default exchange."""

    def __init__(self, source: Source, *, on_sent: Callable[[], None], on_dropped: Callable[[], None]) -> None:
        self._source = source
        self._on_sent = on_sent
        self._on_dropped = on_dropped
        self._in_flight = 0

    def tell(self, address: ReplyAddress, report: OutcomeReport) -> None:
        """Send one outcome. It is not mandatory: the broker drops it if the reply queue is gone."""
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
