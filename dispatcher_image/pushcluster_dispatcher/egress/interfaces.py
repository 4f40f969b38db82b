"""What sends copies and rejected messages."""

import asyncio
from typing import Protocol

from pika.spec import BasicProperties

from pushcluster_runtime.amqp import ConfirmOutcome, Template


class Publisher(Protocol):
    """What sends copies and rejected messages (`AmqpChannel`)."""

    lost: asyncio.Future[str]

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | Template,
        *,
        mandatory: bool,
    ) -> asyncio.Future[ConfirmOutcome]:
        """Publish, and tell the outcome later."""
