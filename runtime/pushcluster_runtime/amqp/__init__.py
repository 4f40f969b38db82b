"""AMQP 0-9-1 over pika: a connection, its channels, publisher confirms, and a connection that reconnects.

Use `AmqpConnection` and `AmqpChannel`, and `PublisherConnection` to publish only.
"""

from pushcluster_runtime.amqp.channel import AmqpChannel
from pushcluster_runtime.amqp.confirms import ConfirmOutcome
from pushcluster_runtime.amqp.connection import AmqpConnection
from pushcluster_runtime.amqp.frames import UNREADABLE_HEADER, Delivery, PropertiesTemplate

__all__ = ["UNREADABLE_HEADER", "AmqpChannel", "AmqpConnection", "ConfirmOutcome", "Delivery", "PropertiesTemplate"]
