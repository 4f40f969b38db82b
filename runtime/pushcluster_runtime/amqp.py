"""AMQP 0-9-1 over pika's callback client, as coroutines and futures.

One rule for failures: there is no reconnecting in here. When a connection or a channel goes, everything that waits on
it fails with `Unavailable`, and its `lost` future resolves with the reason; a supervisor makes a new one.

Nothing here bounds publishes in flight: pika buffers without limit, so whoever publishes keeps a count (the
dispatcher's copies do, and its HTTP API does).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import AMQPChannelError, AMQPConnectionError, AMQPError
from pika.spec import Basic, BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.topology import Binding, Queue, Topology
from pushcluster_runtime.confirms import SEQUENCE_HEADER, Confirms, Outcome

CLOSE_TIMEOUT_S: Final = 5.0
"""How long a polite close waits for the broker's answer."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message from a queue."""

    tag: int
    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes
    consumer_tag: str


class Amqp:
    """One connection. Make it with `connect`."""

    lost: asyncio.Future[str]
    """Resolves with the reason once the connection is gone, whoever closed it."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._connection: AsyncioConnection | None = None
        self._blocked = False

    @classmethod
    async def connect(cls, url: str, *, name: str, heartbeat_s: int = 10, timeout_s: float = 10) -> Self:
        """Open a connection that the broker's tools show as `name`.

        Raises Unavailable (nobody there, refused, too slow) and InvalidInput (no AMQP URL).
        """
        parameters = _parse_url(url, name=name, heartbeat_s=heartbeat_s, timeout_s=timeout_s)
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        amqp = cls()
        connection = AsyncioConnection(
            parameters,
            on_open_callback=lambda _: _settle(opened, None),
            on_open_error_callback=lambda _, error: _settle(opened, Unavailable(f"RabbitMQ: {_describe(error)}")),
            on_close_callback=lambda _, error: amqp._on_closed(error),
            custom_ioloop=loop,
        )
        try:
            async with asyncio.timeout(timeout_s):
                await opened
        except TimeoutError:
            _abandon(connection)
            raise Unavailable(f"RabbitMQ did not open the connection within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            _abandon(connection)
            raise
        connection.add_on_connection_blocked_callback(lambda *_: amqp._set_blocked(blocked=True))
        connection.add_on_connection_unblocked_callback(lambda *_: amqp._set_blocked(blocked=False))
        amqp._connection = connection
        return amqp

    @property
    def blocked(self) -> bool:
        """Whether the broker has stopped reading publishes (memory or disk alarm)."""
        return self._blocked

    async def channel(self, *, confirm: bool = False, prefetch: int = 0) -> "AmqpChannel":
        """Open a channel, in confirm mode if asked for, with at most `prefetch` unacknowledged messages (0: no bound).

        Raises Unavailable.
        """
        connection = self._connection
        if connection is None or self.lost.done():
            raise Unavailable(f"RabbitMQ: {self.lost.result() if self.lost.done() else 'not connected'}")
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            raw = connection.channel(on_open_callback=lambda _: _settle(opened, None))
        except AMQPError as error:
            raise Unavailable(f"RabbitMQ: {_describe(error)}") from error
        channel = AmqpChannel(raw)
        channel.lost.add_done_callback(lambda lost: _settle(opened, Unavailable(f"RabbitMQ: {lost.result()}")))
        try:
            await opened
            await channel.prepare(confirm=confirm, prefetch=prefetch)
        except asyncio.CancelledError:
            channel.abandon()
            raise
        return channel

    async def close(self) -> None:
        """Close politely; returns after CLOSE_TIMEOUT_S even if the broker is silent. Closing twice is allowed."""
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        await asyncio.wait([self.lost], timeout=CLOSE_TIMEOUT_S)

    def _set_blocked(self, *, blocked: bool) -> None:
        self._blocked = blocked
        _log.warning("RabbitMQ blocks publishers" if blocked else "RabbitMQ takes publishes again")

    def _on_closed(self, error: BaseException) -> None:
        if not self.lost.done():
            self.lost.set_result(_describe(error))


class AmqpChannel:
    """One channel. `Amqp.channel` makes it."""

    lost: asyncio.Future[str]
    """Resolves with the reason once the channel is gone: closed, a channel exception, or the connection lost."""

    def __init__(self, raw: Channel) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self._raw = raw
        self._calls: set[asyncio.Future[Any]] = set()
        self._confirms = Confirms()
        self._on_cancel: dict[str, Callable[[], None] | None] = {}
        self._consumers_made = 0
        raw.add_on_close_callback(lambda _, error: self._on_closed(error))

    async def prepare(self, *, confirm: bool, prefetch: int) -> None:
        """Set the modes of a channel that was just opened."""
        self._raw.add_on_cancel_callback(lambda frame: self._on_cancelled(str(frame.method.consumer_tag)))
        if prefetch:
            await self._call(self._raw.basic_qos, prefetch_count=prefetch)
        if confirm:
            self._raw.add_on_return_callback(self._on_returned)
            await self._call(self._raw.confirm_delivery, ack_nack_callback=self._on_confirm)

    async def declare(self, topology: Topology) -> None:
        """Declare exchanges, queues and bindings; what is already there in the same form stays as it is."""
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
        """Declare a durable queue, or one that is exclusive to this connection and goes with it."""
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
        """Delete a queue and its messages; one that is not there is deleted already."""
        await self._call(self._raw.queue_delete, queue=name)

    async def consume(
        self,
        queue: str,
        on_message: Callable[[Delivery], None],
        *,
        no_ack: bool,
        priority: int | None = None,
        on_cancel: Callable[[], None] | None = None,
    ) -> str:
        """Start a consumer and return its tag.

        `on_message` must not raise: that is a bug, and it costs the channel. `on_cancel` is called when the broker
        ends the consumer (its queue is gone); without it the channel is given up, so that `lost` tells.
        """
        self._consumers_made += 1
        consumer_tag = f"{self._consumers_made}.{queue}"
        self._on_cancel[consumer_tag] = on_cancel
        arguments = {} if priority is None else {"x-priority": priority}
        await self._call(
            self._raw.basic_consume,
            queue=queue,
            on_message_callback=partial(self._on_deliver, on_message),
            auto_ack=no_ack,
            consumer_tag=consumer_tag,
            arguments=arguments,
        )
        return consumer_tag

    async def cancel(self, consumer_tag: str) -> None:
        """Stop a consumer. Messages that it holds unacknowledged stay with this channel."""
        self._on_cancel.pop(consumer_tag, None)
        await self._call(self._raw.basic_cancel, consumer_tag=consumer_tag)

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[Outcome]:
        """Publish on a channel in confirm mode; the future tells the outcome, or fails with Unavailable.

        Raises Unavailable at once when the channel is gone, and InvalidInput when the message cannot be encoded. Sets
        a header of its own on mandatory messages. The caller bounds how many futures are open.
        """
        if mandatory:
            properties.headers = {**(properties.headers or {}), SEQUENCE_HEADER: self._confirms.next_number}
        try:
            self._raw.basic_publish(exchange, routing_key, body, properties, mandatory)
        except AMQPError as error:
            raise _translate(error) from error
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._confirms.add(future)
        return future

    @property
    def in_flight(self) -> int:
        """Publishes whose outcome is not known yet."""
        return len(self._confirms)

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it. Raises Unavailable when the channel is gone."""
        try:
            self._raw.basic_ack(delivery_tag, multiple)
        except AMQPError as error:
            raise _translate(error) from error

    async def close(self) -> None:
        """Close; unacknowledged messages go back to their queues. Closing twice is allowed."""
        self.abandon()
        await asyncio.wait([self.lost], timeout=CLOSE_TIMEOUT_S)

    def abandon(self) -> None:
        """Start closing without waiting for it."""
        if self._raw.is_open or self._raw.is_opening:
            self._raw.close()

    async def _call(self, invoke: Callable[..., object], **arguments: object) -> None:
        """Run one of pika's methods that report to a callback; raises Unavailable when the channel goes meanwhile."""
        if self.lost.done():
            raise Unavailable(f"RabbitMQ: {self.lost.result()}")
        replied: asyncio.Future[Any] = self._loop.create_future()
        self._calls.add(replied)
        try:
            invoke(**arguments, callback=lambda *_: _settle(replied, None))
            await replied
        except AMQPError as error:
            raise _translate(error) from error
        finally:
            self._calls.discard(replied)

    def _on_deliver(
        self,
        on_message: Callable[[Delivery], None],
        _: Channel,
        deliver: Basic.Deliver,
        properties: BasicProperties,
        body: bytes,
    ) -> None:
        delivery = Delivery(
            deliver.delivery_tag or 0,
            deliver.exchange or "",
            deliver.routing_key or "",
            deliver.redelivered,
            properties,
            body,
            deliver.consumer_tag or "",
        )
        try:
            on_message(delivery)
        except Exception:  # an error that reached pika would take the whole connection
            _log.exception("a consumer failed", extra={"consumer": deliver.consumer_tag})
            self.abandon()

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        outcome = Outcome.CONFIRMED if isinstance(method, Basic.Ack) else Outcome.NACKED
        self._confirms.settle(method.delivery_tag, multiple=method.multiple, outcome=outcome)

    def _on_returned(self, _: Channel, __: Basic.Return, properties: BasicProperties, ___: bytes) -> None:
        number = (properties.headers or {}).get(SEQUENCE_HEADER)
        if isinstance(number, int):
            self._confirms.mark_returned(number)

    def _on_cancelled(self, consumer_tag: str) -> None:
        if consumer_tag not in self._on_cancel:
            return  # our own cancel is under way
        on_cancel = self._on_cancel.pop(consumer_tag)
        if on_cancel is not None:
            on_cancel()
        else:
            _log.warning("RabbitMQ ended a consumer", extra={"consumer": consumer_tag})
            self.abandon()

    def _on_closed(self, error: BaseException) -> None:
        reason = _describe(error)
        if not self.lost.done():
            self.lost.set_result(reason)
        for call in self._calls:
            _settle(call, Unavailable(f"RabbitMQ: {reason}"))
        self._confirms.fail(f"RabbitMQ: {reason}")


def _parse_url(url: str, *, name: str, heartbeat_s: int, timeout_s: float) -> pika.URLParameters:
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError):
        raise InvalidInput("the AMQP URL is not amqp://user:password@host:port/vhost") from None
    parameters.heartbeat = heartbeat_s
    parameters.socket_timeout = timeout_s
    parameters.stack_timeout = timeout_s
    parameters.connection_attempts = 1
    parameters.client_properties = {"connection_name": name}
    return parameters


def _settle(future: asyncio.Future[None], result: Exception | None) -> None:
    """Give a future its result or error, unless its caller has left already."""
    if future.done():
        return
    if result is None:
        future.set_result(None)
    else:
        future.set_exception(result)
        future.exception()


def _abandon(connection: Connection) -> None:
    if not (connection.is_closed or connection.is_closing):
        connection.close()


def _translate(error: AMQPError) -> Exception:
    """A wrong state means that the channel went; anything else is a value that AMQP cannot carry."""
    if isinstance(error, AMQPChannelError | AMQPConnectionError):
        return Unavailable(f"RabbitMQ: {_describe(error)}")
    return InvalidInput(f"AMQP cannot carry this: {_describe(error)}")


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
