"""A model of the ingress partition: one active consumer, acknowledgements, and what comes back in order.

What a consumer has held for longer than its timeout comes back by itself, as in RabbitMQ 4.3 (`rabbit_fifo`, the
command `evaluate_consumer_timeout`): the next consumer goes on at once, while the timed-out one still holds what
came to it later. So this comes back behind newer messages.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pika.spec import BasicProperties

from pushcluster_dispatcher.ingress.time_limit import GIVE_BACK_PART
from pushcluster_runtime.amqp import Delivery

if TYPE_CHECKING:
    from tests.simulation.amqp_model import Channel
    from tests.simulation.loop import Owner

SAFE_S: Final = 0.002
"""From a message's arrival to its being safe on disk."""

LONG_TIMEOUT_S: Final = 600.0
"""A consumer timeout of at least this does not pass in any schedule."""

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
    timeout_s: float
    unacked: dict[int, Message] = field(default_factory=dict)
    since: dict[int, float] = field(default_factory=dict)
    """By delivery tag, when it was sent."""
    timed_out: bool = False
    tag: int = 0


class Ingress:
    """One quorum queue."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._life = 1
        self._unread: list[tuple[str, BasicProperties, bytes, Callable[[], None]]] = []
        self._ready: deque[Message] = deque()
        self._numbers = 0
        self._consumers: list[_Consumer] = []
        self._active: _Consumer | None = None
        self.returned: dict[bytes, list[float]] = {}
        """By body, when a message came back because the channel that held it was lost."""
        self._fed: _Consumer | None = None
        """Who got something last."""
        self._terms: dict[Owner, int] = {}
        self._when_busy: list[Callable[[], object]] = []

    @property
    def idle(self) -> bool:
        """Whether it is empty and everything is acknowledged."""
        return not self._ready and not any(consumer.unacked for consumer in self._consumers)

    def term_of(self, owner: "Owner") -> int:
        """Return how often another consumer was fed than before, when this process last was that one.

        A consumer that gave way, and is fed again over the same channel, follows whoever was fed in between.
        """
        return self._terms.get(owner, 0)

    def when_busy(self, call: Callable[[], object]) -> None:
        """Call once a message is on its way to a consumer."""
        self._when_busy.append(call)

    def publish(
        self, user: str, properties: BasicProperties, body: bytes, confirm: Callable[[], None], *, reads: bool
    ) -> None:
        """See `Server.publish`; `reads`: unless it is short of memory. Then it still takes some connections' first."""
        publish = user, properties, body, confirm
        if reads or (not self._unread and self._world.random() < 0.7):
            self._world.loop.call_later(SAFE_S, self._accept, self._life, *publish)
        else:
            self._unread.append(publish)

    def read_again(self) -> None:
        """There is memory again."""
        unread, self._unread = self._unread, []
        for publish in unread:
            self.publish(*publish, reads=True)

    def restart(self) -> None:
        """The broker is killed: what was not safe yet is gone."""
        self._life += 1
        self._unread.clear()

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
        waiting = (each for each in self._consumers if not each.timed_out)
        best = max(waiting, key=lambda each: each.priority, default=None)
        if consumer is None or (best is not consumer and not consumer.unacked):
            consumer = self._active = best
        if consumer is None or best is not consumer:
            return  # the one that has to give way gets nothing more
        if self._ready and consumer is not self._fed:
            self._fed = consumer
            self._terms[consumer.channel.connection.owner] = max(self._terms.values(), default=0) + 1
        if self._ready and self._when_busy:
            calls, self._when_busy = self._when_busy, []
            for call in calls:
                call()
        while self._ready:
            message = self._ready.popleft()
            consumer.tag += 1
            consumer.unacked[consumer.tag] = message
            consumer.since[consumer.tag] = self._world.loop.time()
            if consumer.timeout_s < LONG_TIMEOUT_S:
                self._world.loop.call_later(consumer.timeout_s, self._time_out, consumer)
            delivery = Delivery(
                consumer.tag, "push", message.user, message.redelivered, message.properties, message.body, "c"
            )
            message.redelivered = True
            consumer.channel.connection.down(consumer.on_message, delivery, channel=consumer.channel)

    def consume(self, channel: "Channel", on_message: OnMessage, priority: int, timeout_s: float) -> None:
        self._consumers.append(_Consumer(channel, on_message, priority, timeout_s))
        self._feed()

    def _time_out(self, consumer: _Consumer) -> None:
        """Take back what a consumer has held for too long, and end it. Its program hears of that a little later."""
        until = self._world.loop.time() - consumer.timeout_s
        expired = [tag for tag in consumer.unacked if consumer.since[tag] <= until]
        if consumer not in self._consumers or not expired:
            return
        self._world.trace("the broker takes back {} messages that were held too long", len(expired))
        self._return([consumer.unacked.pop(tag) for tag in expired], lost=True)
        if not consumer.timed_out:
            consumer.timed_out = True
            consumer.channel.connection.down(consumer.channel.abandon, channel=consumer.channel)
        if self._active is consumer:
            self._active = None
        self._feed()

    def acknowledge(self, channel: "Channel", tag: int, *, multiple: bool) -> None:
        for consumer in self._consumers:
            if consumer.channel is channel:
                for each in [each for each in consumer.unacked if each == tag or (multiple and each < tag)]:
                    del consumer.unacked[each]
                self._feed()

    def forget_channel(self, channel: "Channel", *, lost: bool) -> None:
        """The channel is lost, or its program has closed it: what it held comes back in order."""
        for consumer in [each for each in self._consumers if each.channel is channel]:
            self._consumers.remove(consumer)
            if self._active is consumer:
                self._active = None
            # A program that holds something for long must give it back, and then does not know what became of it.
            held_since = min((consumer.since[tag] for tag in consumer.unacked), default=self._world.loop.time())
            held_long = self._world.loop.time() - held_since >= consumer.timeout_s * GIVE_BACK_PART
            self._return([*consumer.unacked.values()], lost=lost or held_long)
        self._feed()

    def _return(self, messages: list[Message], *, lost: bool) -> None:
        """Put messages back in order. `lost`: nobody knows whether they were appended."""
        if lost:
            for message in messages:
                self.returned.setdefault(message.body, []).append(self._world.loop.time())
        self._ready = deque(sorted([*messages, *self._ready], key=lambda message: message.number))
