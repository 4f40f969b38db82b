"""Plays gateways that discard what they get, in a process of its own (see `child.py`).

`python -m benchmarks.copy_sink` declares the queues of gateways and sessions, and notes how old each copy is.
"""

import time
from collections.abc import Mapping

from benchmarks.child import Handler, run
from benchmarks.stomp_clients import split_stamps
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.routing import TOPIC_EXCHANGE, session_key
from pushcluster_contract.topology import Binding, build_gateway_queue, build_subscription_queue
from pushcluster_runtime.amqp import AmqpConnection, Delivery


class CopySink:
    """The commands of this child process."""

    def __init__(self) -> None:
        self._ages_s: list[float] = []
        self._amqp: list[AmqpConnection] = []

    async def open(self, *, url: str, incarnation: str, name: str, sids: list[str]) -> None:
        """Consume as one gateway that holds these sessions of one user."""
        amqp = await AmqpConnection.connect(url, name=f"benchmark sink {incarnation}", heartbeat_s=60)
        self._amqp.append(amqp)
        channel = await amqp.channel()
        queue, _ = build_gateway_queue(Incarnation.parse(incarnation))
        await channel.declare_queue(queue)
        await channel.consume(queue.name, self._receive, no_ack=True)
        for sid in sids:
            own = build_subscription_queue(sid)
            await channel.declare_queue(own)
            await channel.bind(Binding(TOPIC_EXCHANGE, own.name, session_key(name, sid)))
            await channel.consume(own.name, self._receive, no_ack=True)

    async def take(self) -> list[float]:
        """Return the ages of the copies that came since the last call, in seconds."""
        ages, self._ages_s = self._ages_s, []
        return ages

    def _receive(self, delivery: Delivery) -> None:
        now = time.monotonic()
        self._ages_s += [now - stamp for stamp in split_stamps(delivery.body)[0]]


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    sink = CopySink()
    return {handler.__name__: handler for handler in (sink.open, sink.take)}


if __name__ == "__main__":
    run(make_handlers)
