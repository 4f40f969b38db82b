"""A model of a program's side of AMQP: connections and channels that stand for `Amqp` and `AmqpChannel`."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.topology import Binding, Queue, Topology
from pushcluster_dispatcher.settings import CONSUMER_TIMEOUT_S
from pushcluster_runtime.amqp import ConfirmOutcome, PropertiesTemplate
from tests.simulation.ingress_model import OnMessage

if TYPE_CHECKING:
    from tests.simulation.broker_model import Server
    from tests.simulation.loop import Owner


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
        self._unread: list[tuple[Callable[..., Any], tuple[Any, ...]]] | None = None
        """What has come since the broker stopped reading; None while it reads."""
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
            self.server.drop(self, by_itself=True)
            self.tell_lost()

    def tell_lost(self) -> None:
        if not self.lost.done():
            self.lost.set_result("connection closed")
        for channel in self.channels:
            channel.tell_lost("connection closed")

    def read_again(self) -> None:
        """The broker's alarm is over."""
        unread, self._unread = self._unread, None
        if unread is not None:
            self.down(self._set_blocked, False)
            for work, args in unread:
                self._arrive(work, args)

    def up(self, work: Callable[..., Any], *args: Any) -> None:
        """Run something at the broker once it has arrived there, in order; never when the connection has gone."""
        loop = self.world.loop
        heals = self.world.cut_until(self.owner, "rabbitmq")
        self._up_at = max(self._up_at, loop.time() + self.world.latency(), heals)
        if not self.owner.dead:
            loop.run_as(self.world.owner, loop.call_at, self._up_at, self._arrive, work, args)

    def down(self, work: Callable[..., Any], *args: Any, channel: "Channel | None" = None, late_s: float = 0.0) -> None:
        """Tell the program something, in order unless it is late."""
        loop = self.world.loop
        heals = self.world.cut_until(self.owner, "rabbitmq")
        at = max(self._down_at, loop.time() + self.world.latency(), heals)
        if not late_s:
            self._down_at = at
        self.world.loop.run_as(self.owner, loop.call_at, at + late_s, self._if_heard, channel, work, args)

    def stop_reading(self) -> None:
        """What RabbitMQ does under an alarm to a connection that has published."""
        if self._unread is None:
            self._unread = []
            self.down(self._set_blocked, True)

    def _set_blocked(self, blocked: bool) -> None:
        self.blocked = blocked
        self.on_blocked(blocked)

    def _arrive(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not self.alive:
            return
        if self._unread is not None:
            self._unread.append((work, args))
        else:
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
        timeout_s: float = CONSUMER_TIMEOUT_S,
        on_cancel: Callable[[], None] | None = None,
    ) -> str:
        server = self.connection.server
        if no_ack:
            await self.call(partial(server.consume_copies, queue, on_message, on_cancel))
        else:
            await self.call(partial(server.ingress.consume, self, on_message, priority or 0, timeout_s))
        return queue

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | PropertiesTemplate,
        *,
        mandatory: bool,
    ) -> asyncio.Future[ConfirmOutcome]:
        sent = properties.encode(1) if isinstance(properties, PropertiesTemplate) else properties
        if self.lost.done() and not self.connection.owner.dead:
            raise Unavailable("RabbitMQ: channel closed")
        return self.call(partial(self._route, exchange, routing_key, sent, body))

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        if self.lost.done():
            raise Unavailable("RabbitMQ: channel closed")
        acknowledge = partial(self.connection.server.ingress.acknowledge, multiple=multiple)
        self.connection.up(acknowledge, self, delivery_tag)

    async def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if not self.connection.owner.dead and not self.lost.done():
            # What the broker has sent on the way is not heard any more, and comes back with the rest.
            ingress = self.connection.server.ingress
            self.connection.up(partial(ingress.forget_channel, self, lost=self.connection.owner.stopping))
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

    def _route(self, *message: Any) -> ConfirmOutcome:
        server = self.connection.server
        if server.alarm:
            self.connection.stop_reading()
        return server.route(*message)

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
