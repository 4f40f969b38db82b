"""What egress needs from an AMQP channel."""

import asyncio
from typing import Protocol

from pika.spec import BasicProperties

from pushcluster_runtime.amqp import ConfirmOutcome, PropertiesTemplate


class Publisher(Protocol):
    """The channel for copies and rejected messages (`AmqpChannel`)."""

    lost: asyncio.Future[str]

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | PropertiesTemplate,
        *,
        mandatory: bool,
    ) -> asyncio.Future[ConfirmOutcome]:
        """Publish. The future tells the outcome later."""
