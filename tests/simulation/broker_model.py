"""A model of RabbitMQ: the ingress partition, routing of copies, confirms, returns, and connections that break.

What it takes from RabbitMQ: an ingress queue has one active consumer, the one with the highest priority; what a
channel held comes back in order and before all that is newer; a confirm comes after the message is safe; exclusive
queues go with their connection; a return comes before its confirm. Copies may be lost, doubled, late and returned at
any time, which is more than RabbitMQ does.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.routing import BROADCAST_EXCHANGE, DEFAULT_EXCHANGE
from pushcluster_contract.topology import REJECTED_EXCHANGE, Binding, Queue, Topology
from pushcluster_runtime.amqp import Delivery, Outcome, Template

if TYPE_CHECKING:
    from tests.simulation.loop import Owner

SAFE_S: Final = 0.002
"""From a message's arrival to its being safe on disk."""

OnMessage = Callable[[Delivery], None]


@dataclass(slots=True)
class Message:
    """One message in ingress."""

    number: int
    user: str
    properties: BasicProperties
    body: bytes
    redelivered: bool = False


@dataclass(slots=True)
class _Consumer:
    channel: "Channel"
    on_message: OnMessage
    priority: int
    unacked: dict[int, Message] = field(default_factory=dict)
    tag: int = 0


@dataclass(slots=True)
class _CopyQueue:
    connection: "Connection"
    on_message: OnMessage | None = None
    on_cancel: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class CopyFaults:
    """Probabilities for each copy."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    returned: float = 0.0


class Server:
    """One broker."""

    def __init__(self, world: Any, faults: CopyFaults) -> None:
        self.up = True
        self.rejected: list[bytes] = []
        self.connections: list[Connection] = []
        self.faults = faults
        self._world = world
        self._life = 1
        self._ready: deque[Message] = deque()
        self._numbers = 0
        self._consumers: list[_Consumer] = []
        self._active: _Consumer | None = None
        self._queues: dict[str, _CopyQueue] = {}
        self._bindings: dict[tuple[str, str], list[str]] = {}

    @property
    def idle(self) -> bool:
        """Whether ingress is empty and everything is acknowledged."""
        return not self._ready and not any(consumer.unacked for consumer in self._consumers)

    # Ingress

    def publish(self, user: str, properties: BasicProperties, body: bytes, confirm: Callable[[], None]) -> None:
        """Take a producer's message; `confirm` is called once it is safe, unless the broker ends before."""
        if self.up:
            self._world.loop.call_later(SAFE_S, self._accept, self._life, user, properties, body, confirm)

    def _accept(
        self, life: int, user: str, properties: BasicProperties, body: bytes, confirm: Callable[[], None]
    ) -> None:
        if life != self._life:
            return
        self._numbers += 1
        self._ready.append(Message(self._numbers, user, properties, body))
        self._world.loop.call_later(self._world.latency(), self._confirm, life, confirm)
        self._feed()

    def _confirm(self, life: int, confirm: Callable[[], None]) -> None:
        if life == self._life:
            confirm()

    def _feed(self) -> None:
        consumer = self._active
        best = max(self._consumers, key=lambda each: each.priority, default=None)
        if consumer is None or (best is not consumer and not consumer.unacked):
            consumer = self._active = best
        if consumer is None or best is not consumer:
            return  # the one that has to give way gets nothing more
        while self._ready:
            message = self._ready.popleft()
            consumer.tag += 1
            consumer.unacked[consumer.tag] = message
            delivery = Delivery(
                consumer.tag, "push", message.user, message.redelivered, message.properties, message.body, "c"
            )
            message.redelivered = True
            consumer.channel.connection.down(consumer.on_message, delivery, channel=consumer.channel)

    def consume_ingress(self, channel: "Channel", on_message: OnMessage, priority: int) -> None:
        self._consumers.append(_Consumer(channel, on_message, priority))
        self._feed()

    def acknowledge(self, channel: "Channel", tag: int) -> None:
        for consumer in self._consumers:
            if consumer.channel is channel:
                for each in [each for each in consumer.unacked if each <= tag]:
                    del consumer.unacked[each]
                self._feed()

    def forget_channel(self, channel: "Channel") -> None:
        """The channel is closed: what it held comes back in order."""
        for consumer in [each for each in self._consumers if each.channel is channel]:
            self._consumers.remove(consumer)
            if self._active is consumer:
                self._active = None
            self._requeue(consumer)
        self._feed()

    def _requeue(self, consumer: _Consumer) -> None:
        returned = [*consumer.unacked.values(), *self._ready]
        self._ready = deque(sorted(returned, key=lambda message: message.number))

    # Copies

    def declare(self, connection: "Connection", name: str) -> None:
        self._queues[name] = _CopyQueue(connection)

    def bind(self, binding: Binding) -> None:
        self._bindings.setdefault((binding.exchange, binding.routing_key), []).append(binding.queue)

    def consume_copies(self, name: str, on_message: OnMessage, on_cancel: Callable[[], None] | None) -> None:
        queue = self._queues.get(name)
        if queue is not None:
            queue.on_message, queue.on_cancel = on_message, on_cancel

    def delete(self, name: str) -> None:
        self._queues.pop(name, None)
        for bound in self._bindings.values():
            if name in bound:
                bound.remove(name)

    def delete_some_queue(self, choose: Callable[[list[str]], str]) -> None:
        """Somebody deletes a subscription's queue by hand."""
        names = [name for name, queue in self._queues.items() if queue.on_cancel is not None]
        if names:
            name = choose(names)
            queue = self._queues[name]
            self._world.trace("queue {} is deleted", name)
            self.delete(name)
            if queue.on_cancel is not None:
                queue.connection.down(queue.on_cancel)

    def route(self, exchange: str, routing_key: str, properties: BasicProperties | bytes, body: bytes) -> Outcome:
        """Route what a dispatcher or gateway publishes."""
        if exchange == REJECTED_EXCHANGE:
            self.rejected.append(body)
            return Outcome.CONFIRMED
        names = [routing_key] if exchange == DEFAULT_EXCHANGE else self._bindings.get((exchange, routing_key), [])
        queues = [queue for name in names if (queue := self._queues.get(name)) is not None]
        faults, random = self.faults, self._world.random
        if not queues or (exchange != BROADCAST_EXCHANGE and random() < faults.returned):
            return Outcome.CONFIRMED if exchange == BROADCAST_EXCHANGE else Outcome.RETURNED
        for queue in queues:
            if random() < faults.lost:
                self._world.trace("a copy for {} is lost", queue.connection.owner.name)
                continue
            for _ in range(2 if random() < faults.doubled else 1):
                late_s = random() * 3.0 if random() < faults.late else 0.0
                self._deliver_copy(queue, exchange, routing_key, properties, body, late_s)
        return Outcome.CONFIRMED

    def _deliver_copy(
        self,
        queue: _CopyQueue,
        exchange: str,
        key: str,
        properties: BasicProperties | bytes,
        body: bytes,
        late_s: float,
    ) -> None:
        if queue.on_message is None:
            return
        delivery = Delivery(0, exchange, key, False, properties, body, "c")
        if late_s:
            queue.connection.down(queue.on_message, delivery, late_s=late_s)
        else:
            queue.connection.down(queue.on_message, delivery)

    # Connections

    def crash(self, down_s: float) -> None:
        """The only node is killed; queues that are durable come back with it."""
        if not self.up:
            return
        self._world.trace("rabbitmq crashes")
        self.up = False
        self._life += 1
        for connection in list(self.connections):
            self.drop(connection)
        self._world.loop.call_later(down_s, self._start)

    def _start(self) -> None:
        self.up = True
        self._world.trace("rabbitmq is up")
        self._feed()

    def drop(self, connection: "Connection") -> None:
        """The broker ends a connection; its program hears of it a little later."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        connection.alive = False
        for name in [name for name, queue in self._queues.items() if queue.connection is connection]:
            self.delete(name)
        for channel in connection.channels:
            self.forget_channel(channel)
        self._world.loop.call_later(self._world.random() * 0.5, connection.tell_lost)


class Connection:
    """Stands for `Amqp`."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.server: Server = world.broker
        self.owner: Owner = world.loop.owner
        self.lost: asyncio.Future[str] = world.loop.create_future()
        self.alive = True
        """At the broker."""
        self.blocked = False
        self.on_blocked: Callable[[bool], None] = lambda _: None
        self.channels: list[Channel] = []
        self._up_at = 0.0
        self._down_at = 0.0

    @classmethod
    async def connect(cls, url: str, *, name: str) -> "Connection":
        world = asyncio.get_running_loop().world  # type: ignore[attr-defined]
        connection = cls(world)
        heals = world.cut_until(connection.owner, "rabbitmq")
        await asyncio.sleep(max(world.latency(), heals - world.loop.time()))
        if not connection.server.up:
            raise Unavailable("RabbitMQ: connection refused")
        connection.server.connections.append(connection)
        return connection

    async def channel(self, *, confirm: bool = False, prefetch: int = 0) -> "Channel":
        channel = Channel(self)
        self.channels.append(channel)
        await channel.call(lambda: None)
        return channel

    async def close(self) -> None:
        if not self.owner.dead:
            self.server.drop(self)
            self.tell_lost()

    def tell_lost(self) -> None:
        if not self.lost.done():
            self.lost.set_result("connection closed")
        for channel in self.channels:
            channel.tell_lost("connection closed")

    def up(self, work: Callable[..., Any], *args: Any) -> None:
        """Run something at the broker once it has arrived there, in order; never when the connection has gone."""
        loop = self.world.loop
        heals = self.world.cut_until(self.owner, "rabbitmq")
        self._up_at = max(self._up_at, loop.time() + self.world.latency(), heals)
        if not self.owner.dead:
            loop.call_at(self._up_at, self._if_alive, work, args)

    def down(self, work: Callable[..., Any], *args: Any, channel: "Channel | None" = None, late_s: float = 0.0) -> None:
        """Tell the program something, in order unless it is late."""
        loop = self.world.loop
        heals = self.world.cut_until(self.owner, "rabbitmq")
        at = max(self._down_at, loop.time() + self.world.latency(), heals)
        if not late_s:
            self._down_at = at
        self.world.loop.run_as(self.owner, loop.call_at, at + late_s, self._if_heard, channel, work, args)

    def _if_alive(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.alive:
            work(*args)

    def _if_heard(self, channel: "Channel | None", work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not self.lost.done() and not self.owner.dead and (channel is None or not channel.lost.done()):
            work(*args)


class Channel:
    """Stands for `AmqpChannel`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.lost: asyncio.Future[str] = connection.world.loop.create_future()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._calls = 0

    async def declare(self, topology: Topology) -> None:
        await self.call(lambda: None)

    async def declare_queue(self, queue: Queue) -> None:
        await self.call(partial(self.connection.server.declare, self.connection, queue.name))

    async def bind(self, binding: Binding) -> None:
        await self.call(partial(self.connection.server.bind, binding))

    async def delete_queue(self, name: str) -> None:
        await self.call(partial(self.connection.server.delete, name))

    async def consume(
        self,
        queue: str,
        on_message: OnMessage,
        *,
        no_ack: bool,
        priority: int | None = None,
        on_cancel: Callable[[], None] | None = None,
    ) -> str:
        server = self.connection.server
        if no_ack:
            await self.call(partial(server.consume_copies, queue, on_message, on_cancel))
        else:
            await self.call(partial(server.consume_ingress, self, on_message, priority or 0))
        return queue

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties | Template, *, mandatory: bool
    ) -> asyncio.Future[Outcome]:
        sent = properties.encode(1) if isinstance(properties, Template) else properties
        if self.lost.done() and not self.connection.owner.dead:
            raise Unavailable("RabbitMQ: channel closed")
        return self.call(partial(self.connection.server.route, exchange, routing_key, sent, body))

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        assert multiple
        if self.lost.done():
            raise Unavailable("RabbitMQ: channel closed")
        self.connection.up(self.connection.server.acknowledge, self, delivery_tag)

    async def close(self) -> None:
        if not self.connection.owner.dead and not self.lost.done():
            # What the broker has sent on the way is not heard any more, and comes back with the rest.
            self.connection.up(self.connection.server.forget_channel, self)
            self.tell_lost("closed")

    def call(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run at the broker; the future has the result, or Unavailable when the connection goes meanwhile."""
        answer: asyncio.Future[Any] = self.connection.world.loop.create_future()
        if self.connection.owner.dead:
            answer.cancel()
        elif self.lost.done() or self.connection.lost.done():
            _fail(answer)
        else:
            self._calls += 1
            self._waiting[self._calls] = answer
            self.connection.up(self._run, self._calls, work)
        return answer

    def tell_lost(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            _fail(answer)

    def _run(self, number: int, work: Callable[[], Any]) -> None:
        self.connection.down(self._answer, number, work(), channel=self)

    def _answer(self, number: int, result: Any) -> None:
        answer = self._waiting.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(result)


def _fail(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(Unavailable("RabbitMQ: connection closed"))
        answer.exception()
