"""The consumers of one AMQP channel: who gets a delivery, and who is told when the broker ends a consumer."""

import logging
from collections.abc import Callable
from functools import partial

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from pushcluster_runtime.amqp.frames import Delivery
from pushcluster_runtime.amqp.pika_connection import PikaConnection

_log = logging.getLogger(__name__)

OnMessage = Callable[[Delivery], None]
OnCancel = Callable[[], None]


class ChannelConsumers:
    """The consumers of one channel. `give_up` closes the channel."""

    def __init__(self, raw: Channel, connection: PikaConnection, give_up: Callable[[], None]) -> None:
        self._raw = raw
        self._connection = connection
        self._give_up = give_up
        self._on_cancel: dict[str, OnCancel | None] = {}
        self._made = 0

    def add(self, queue: str, on_message: OnMessage, on_cancel: OnCancel | None) -> tuple[str, Callable[..., None]]:
        """Return the tag of a new consumer, and the callback for deliveries that pika itself assembles."""
        self._made += 1
        consumer_tag = f"{self._made}.{queue}"
        self._on_cancel[consumer_tag] = on_cancel
        deliver = partial(self._deliver, on_message)
        # Before the broker's answer, because the first deliveries may come together with it.
        self._connection.consumers[self._raw.channel_number, consumer_tag] = deliver
        return consumer_tag, partial(_on_assembled, deliver)

    def forget(self, consumer_tag: str) -> None:
        """Give a consumer no more deliveries."""
        self._on_cancel.pop(consumer_tag, None)
        self._connection.consumers.pop((self._raw.channel_number, consumer_tag), None)

    def forget_all(self) -> None:
        """Forget all consumers: the channel is gone."""
        for consumer_tag in list(self._on_cancel):
            self.forget(consumer_tag)

    def cancelled(self, consumer_tag: str) -> None:
        """Note that the broker has ended a consumer."""
        if consumer_tag not in self._on_cancel:
            return  # our own cancel is under way
        on_cancel = self._on_cancel[consumer_tag]
        self.forget(consumer_tag)
        if on_cancel is not None:
            on_cancel()
        else:
            _log.warning("RabbitMQ ended a consumer; its channel is closed", extra={"consumer": consumer_tag})
            self._give_up()

    def _deliver(self, on_message: OnMessage, delivery: Delivery) -> None:
        if not self._raw.is_open:
            return  # the delivery goes back to the queue, with the others
        try:
            on_message(delivery)
        except Exception:  # an error that reached pika would end the whole connection
            _log.exception("a consumer failed; its channel is closed", extra={"consumer": delivery.consumer_tag})
            self._give_up()


def _on_assembled(
    handle: OnMessage, _: Channel, deliver: Basic.Deliver, properties: BasicProperties, body: bytes
) -> None:
    """Pass on a delivery that pika has assembled."""
    handle(
        Delivery(
            deliver.delivery_tag or 0,
            deliver.exchange or "",
            deliver.routing_key or "",
            deliver.redelivered,
            properties,
            body,
            deliver.consumer_tag or "",
        )
    )
