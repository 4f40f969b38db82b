"""One AMQP channel: declarations, consumers and confirmed publishes."""

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from pika.channel import Channel
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.topology import Binding, Queue, Topology
from pushcluster_runtime.amqp.confirms import SEQUENCE_HEADER, ConfirmOutcome, Confirms
from pushcluster_runtime.amqp.consumers import ChannelConsumers
from pushcluster_runtime.amqp.errors import describe, translate, unavailable
from pushcluster_runtime.amqp.frames import (
    Delivery,
    PropertiesTemplate,
    encode_ack,
    encode_properties,
    encode_publish,
)
from pushcluster_runtime.amqp.pika_connection import PikaConnection

CLOSE_TIMEOUT_S: Final = 5.0
"""How long `close` waits for the broker's answer."""
ANSWER_TIMEOUT_S: Final = 15.0
"""How long the broker may leave all calls of a channel without an answer."""
CONFIRM_TIMEOUT_S: Final = 30.0
"""How long the broker may leave all publishes of a channel without a confirm. A leader election takes seconds."""


class AmqpChannel:
    """One channel. `AmqpConnection.channel` opens it."""

    lost: asyncio.Future[str]
    """Resolves with the reason when the channel ends: it was closed, had an exception, or its connection was lost."""

    def __init__(self, raw: Channel) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self._raw = raw
        self._calls: set[asyncio.Future[Any]] = set()
        self._confirms = Confirms()
        self._on_get_empty: Callable[[], None] | None = None
        self._connection = cast(PikaConnection, raw.connection)
        self._answered_at = self._confirmed_at = self._loop.time()
        self._consumers = ChannelConsumers(raw, self._connection, self.abandon)
        # pika's close cancels every consumer first. A queue with a single active consumer then goes on with the next
        # consumer at once, and the messages that this channel holds unacknowledged come later, out of order (seen on
        # RabbitMQ 4.3.6). A close without a cancel gives the messages back first.
        self._basic_cancel = raw.basic_cancel
        raw.basic_cancel = _cancel_nothing  # type: ignore[method-assign]
        raw.add_on_close_callback(lambda _, error: self._on_closed(error))

    async def prepare(self, *, confirm: bool, prefetch: int) -> None:
        """Set the modes of a channel that was just opened."""
        self._raw.add_on_cancel_callback(lambda frame: self._consumers.cancelled(str(frame.method.consumer_tag)))
        if prefetch:
            await self._call(self._raw.basic_qos, prefetch_count=prefetch)
        if confirm:
            self._raw.add_on_return_callback(self._on_returned)
            self._connection.confirms[self._raw.channel_number] = self._on_acknowledged
            await self._call(self._raw.confirm_delivery, ack_nack_callback=self._on_confirm)

    async def declare(self, topology: Topology) -> None:
        """Declare exchanges, queues and bindings. What exists in the same form stays as it is."""
        for exchange in topology.exchanges:
            await self._call(
                self._raw.exchange_declare,
                exchange=exchange.name,
                exchange_type=exchange.type,
                durable=True,
                arguments=dict(exchange.arguments),
            )
        for queue in topology.queues:
            await self.declare_queue(queue)
        for binding in topology.bindings:
            await self.bind(binding)

    async def declare_queue(self, queue: Queue) -> None:
        """Declare a durable queue, or an exclusive one, which the broker deletes with this connection."""
        await self._call(
            self._raw.queue_declare,
            queue=queue.name,
            durable=not queue.exclusive,
            exclusive=queue.exclusive,
            auto_delete=False,
            arguments=dict(queue.arguments),
        )

    async def bind(self, binding: Binding) -> None:
        """Bind a queue to an exchange."""
        await self._call(
            self._raw.queue_bind, queue=binding.queue, exchange=binding.exchange, routing_key=binding.routing_key
        )

    async def delete_queue(self, name: str) -> None:
        """Delete a queue and its messages. A missing queue is no error."""
        await self._call(self._raw.queue_delete, queue=name)

    async def consume(
        self,
        queue: str,
        on_message: Callable[[Delivery], None],
        *,
        no_ack: bool,
        priority: int | None = None,
        timeout_s: float | None = None,
        on_cancel: Callable[[], None] | None = None,
    ) -> str:
        """Start a consumer and return its tag.

        `timeout_s` is how long the broker lets it hold a message of a quorum queue. It goes before every policy.

        `on_message` must not raise: that is a bug, and it closes the channel. `on_cancel` is called when the broker
        ends the consumer (its queue is gone). Without `on_cancel`, the channel is closed, so that `lost` resolves.
        """
        consumer_tag, on_assembled = self._consumers.add(queue, on_message, on_cancel)
        arguments = {} if priority is None else {"x-priority": priority}
        if timeout_s is not None:
            arguments["x-consumer-timeout"] = round(timeout_s * 1_000)
        await self._call(
            self._raw.basic_consume,
            queue=queue,
            on_message_callback=on_assembled,
            auto_ack=no_ack,
            consumer_tag=consumer_tag,
            arguments=arguments,
        )
        return consumer_tag

    async def get(self, queue: str) -> Delivery | None:
        """Return a queue's next message, unacknowledged, or None if it has none. One call at a time. Raise Unavailable.

        This is for tools. Programs consume.
        """
        got: list[Delivery] = []

        def ask(*, callback: Callable[[], None]) -> None:
            def on_message(_: Channel, method: Basic.GetOk, properties: BasicProperties, body: bytes) -> None:
                key = method.routing_key or ""
                got.append(
                    Delivery(
                        method.delivery_tag or 0, method.exchange or "", key, method.redelivered, properties, body, ""
                    )
                )
                callback()

            if self._on_get_empty is None:
                empty = [Basic.GetEmpty]
                self._raw.add_callback(lambda _: self._on_get_empty and self._on_get_empty(), empty, one_shot=False)
            self._on_get_empty = callback
            self._raw.basic_get(queue, on_message)

        await self._call(ask)
        return got[0] if got else None

    async def cancel(self, consumer_tag: str) -> None:
        """Stop a consumer. Messages that it holds unacknowledged stay with this channel.

        Do not use it for a queue with a single active consumer whose order matters. The next consumer would start at
        once, ahead of the messages that are unacknowledged here. `close` keeps the order.
        """
        self._consumers.forget(consumer_tag)
        await self._call(self._basic_cancel, consumer_tag=consumer_tag)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | PropertiesTemplate,
        *,
        mandatory: bool,
    ) -> asyncio.Future[ConfirmOutcome]:
        """Publish on a channel in confirm mode. The future tells the outcome, or fails with Unavailable.

        Raise Unavailable if the channel is gone, and InvalidInput if the message cannot be encoded. A mandatory message
        gets a header of its own. A PropertiesTemplate has this header, so use it only for mandatory messages. The
        caller bounds how many futures are open.
        """
        self._require_open()
        number = self._confirms.next_number
        try:
            frames = encode_publish(
                self._raw.channel_number,
                exchange,
                routing_key,
                _encode(properties, number, mandatory=mandatory),
                body,
                mandatory=mandatory,
                frame_max=self._connection.frame_max,
            )
        except (struct.error, OverflowError, TypeError, ValueError) as error:
            raise InvalidInput(f"AMQP cannot carry this: {error}") from error
        except AMQPError as error:
            raise translate(error) from error
        self._connection.send(frames)
        future: asyncio.Future[ConfirmOutcome] = self._loop.create_future()
        if not len(self._confirms):
            self._confirmed_at = self._loop.time()
        self._confirms.add(future)
        return future

    @property
    def in_flight(self) -> int:
        """How many publishes have no outcome yet."""
        return len(self._confirms)

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all deliveries up to it. Raise Unavailable if the channel is gone."""
        self._require_open()
        self._connection.send(encode_ack(self._raw.channel_number, delivery_tag, multiple=multiple))

    def give_back(self) -> None:
        """Give all unacknowledged messages back, in order, unless the channel is gone.

        A quorum queue puts them at its end. It does not count this against its delivery limit, as it does when the
        connection ends.
        """
        with suppress(AMQPError):
            self._raw.basic_nack(0, multiple=True, requeue=True)

    async def close(self) -> None:
        """Close. Unacknowledged messages go back to their queues, in order. To close twice is allowed."""
        self.abandon()
        await asyncio.wait([self.lost], timeout=CLOSE_TIMEOUT_S)

    def abandon(self) -> None:
        """Start to close, and do not wait for the end."""
        if self._raw.is_open or self._raw.is_opening:
            self._raw.close()

    def find_silence(self, now: float, *, blocked: bool) -> str:
        """Return in words what the broker has not answered for too long, or "".

        `blocked` says that the broker has announced that it does not read from the connection.
        """
        if not blocked and self._calls and now - self._answered_at > ANSWER_TIMEOUT_S:
            return f"no answer within {ANSWER_TIMEOUT_S:g} s"
        if not blocked and len(self._confirms) and now - self._confirmed_at > CONFIRM_TIMEOUT_S:
            return f"no confirm within {CONFIRM_TIMEOUT_S:g} s"
        return ""

    def unblocked(self, now: float) -> None:
        """Note that the broker reads from the connection again. The time until now does not count as silence."""
        self._answered_at = self._confirmed_at = now

    def _require_open(self) -> None:
        if not self._raw.is_open:
            raise unavailable(self.lost.result() if self.lost.done() else "the channel is closing")

    async def _call(self, invoke: Callable[..., object], **arguments: object) -> None:
        """Run one of pika's methods that report to a callback. Raise Unavailable if the channel ends meanwhile."""
        if self.lost.done():
            raise unavailable(self.lost.result())
        replied: asyncio.Future[Any] = self._loop.create_future()
        if not self._calls:
            self._answered_at = self._loop.time()
        self._calls.add(replied)
        try:
            invoke(**arguments, callback=lambda *_: self._on_reply(replied))
            await replied
        except AMQPError as error:
            raise translate(error) from error
        finally:
            self._calls.discard(replied)

    def _on_reply(self, replied: asyncio.Future[None]) -> None:
        self._answered_at = self._loop.time()
        settle(replied, None)

    def _on_acknowledged(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - as pika_connection.OnConfirm
        self._confirmed_at = self._loop.time()
        self._confirms.settle(number, multiple=multiple, outcome=ConfirmOutcome.CONFIRMED)

    def _on_confirm(self, frame: Any) -> None:
        """Take what pika has decoded: a nack, or an ack in an unusual form."""
        method = frame.method
        outcome = ConfirmOutcome.CONFIRMED if isinstance(method, Basic.Ack) else ConfirmOutcome.NACKED
        self._confirmed_at = self._loop.time()
        self._confirms.settle(method.delivery_tag, multiple=method.multiple, outcome=outcome)

    def _on_returned(self, _: Channel, __: Basic.Return, properties: BasicProperties, ___: bytes) -> None:
        number = (properties.headers or {}).get(SEQUENCE_HEADER)
        if isinstance(number, int):
            self._confirms.mark_returned(number)

    def _on_closed(self, error: BaseException) -> None:
        reason = describe(error)
        self._consumers.forget_all()
        self._connection.confirms.pop(self._raw.channel_number, None)
        if not self.lost.done():
            self.lost.set_result(reason)
        for call in self._calls:
            settle(call, unavailable(reason))
        self._confirms.fail(unavailable(reason))


def _encode(properties: BasicProperties | PropertiesTemplate, number: int, *, mandatory: bool) -> bytes:
    if isinstance(properties, PropertiesTemplate):
        return properties.encode(number)
    if mandatory:
        properties.headers = {**(properties.headers or {}), SEQUENCE_HEADER: number}
    return encode_properties(properties)


def settle(future: asyncio.Future[None], result: Exception | None) -> None:
    """Give a future its result or error, unless its caller has cancelled it."""
    if future.done():
        return
    if result is None:
        future.set_result(None)
    else:
        future.set_exception(result)
        future.exception()


def _cancel_nothing(*_: object, **__: object) -> None:
    """Replace `Channel.basic_cancel` for the calls that pika makes by itself."""
