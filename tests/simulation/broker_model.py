"""A model of RabbitMQ: the ingress partition, routing of copies, confirms, returns, and connections that break.

What it takes from RabbitMQ: an ingress queue has one active consumer, the one with the highest priority; what a
channel held comes back in order and before all that is newer; a confirm comes after the message is safe; exclusive
queues go with their connection; a return comes before its confirm. Copies may be lost, doubled, late and returned at
any time, which is more than RabbitMQ does. Under an alarm (memory, disk) it stops reading from a connection once that
has published, and tells it so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pika.spec import BasicProperties

from pushcluster_contract.routing import BROADCAST_EXCHANGE, DEFAULT_EXCHANGE
from pushcluster_contract.topology import REFUSED_QUEUE, REJECTED_EXCHANGE, Binding
from pushcluster_runtime.amqp import ConfirmOutcome, Delivery
from tests.simulation.ingress_model import Ingress, OnMessage

if TYPE_CHECKING:
    from tests.simulation.amqp_model import Connection


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
        self.alarm = False
        self.rejected: list[bytes] = []
        self.connections: list[Connection] = []
        self.faults = faults
        self.ingress = Ingress(world)
        self._world = world
        self._queues: dict[str, _CopyQueue] = {}
        self._bindings: dict[tuple[str, str], list[str]] = {}

    def publish(self, user: str, properties: BasicProperties, body: bytes, confirm: Callable[[], None]) -> None:
        """Take a producer's message; `confirm` is called once it is safe, unless the broker ends before."""
        if self.up:
            self.ingress.publish(user, properties, body, confirm, reads=not self.alarm)

    def raise_alarm(self) -> None:
        """It is short of memory."""
        if self.up:
            self._world.trace("rabbitmq takes no messages")
            self.alarm = True

    def end_alarm(self) -> None:
        """There is memory again."""
        if self.alarm:
            self._world.trace("rabbitmq takes messages again")
            self.alarm = False
            for connection in list(self.connections):
                connection.read_again()
            self.ingress.read_again()

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

    def route(
        self, exchange: str, routing_key: str, properties: BasicProperties | bytes, body: bytes
    ) -> ConfirmOutcome:
        """Route what a dispatcher or gateway publishes."""
        if exchange == REJECTED_EXCHANGE:
            self.rejected.append(body)
            return ConfirmOutcome.CONFIRMED
        if (exchange, routing_key) == (DEFAULT_EXCHANGE, REFUSED_QUEUE):
            return ConfirmOutcome.CONFIRMED
        names = [routing_key] if exchange == DEFAULT_EXCHANGE else self._bindings.get((exchange, routing_key), [])
        queues = [queue for name in names if (queue := self._queues.get(name)) is not None]
        faults, random = self.faults, self._world.random
        if not queues or (exchange != BROADCAST_EXCHANGE and random() < faults.returned):
            return ConfirmOutcome.CONFIRMED if exchange == BROADCAST_EXCHANGE else ConfirmOutcome.RETURNED
        for queue in queues:
            if random() < faults.lost:
                self._world.trace("a copy for {} is lost", queue.connection.owner.name)
                continue
            for _ in range(2 if random() < faults.doubled else 1):
                late_s = random() * 3.0 if random() < faults.late else 0.0
                self._deliver_copy(queue, exchange, routing_key, properties, body, late_s)
        return ConfirmOutcome.CONFIRMED

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
        self.up = self.alarm = False
        self.ingress.restart()
        for connection in list(self.connections):
            self.drop(connection)
        self._world.loop.call_later(down_s, self._start)

    def _start(self) -> None:
        self.up = True
        self._world.trace("rabbitmq is up")

    def drop(self, connection: "Connection", *, by_itself: bool = False, heard_at: float | None = None) -> None:
        """The broker, or the program `by_itself`, ends a connection; its program hears of it a little later."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        connection.alive = False
        for name in [name for name, queue in self._queues.items() if queue.connection is connection]:
            self.delete(name)
        for channel in connection.channels:
            self.ingress.forget_channel(channel, lost=not by_itself or connection.owner.stopping)
        loop = self._world.loop
        at = loop.time() + self._world.random() * 0.5
        loop.run_as(connection.owner, loop.call_at, max(at, heard_at or 0.0), connection.tell_lost)
