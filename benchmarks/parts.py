"""The steps that no push can do without, each alone: a quorum queue, an append to a log, and one transient hop.

`python -m benchmarks.parts` runs as a child process (see `child.py`).
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

from pika.spec import BasicProperties

from benchmarks.child import Handler, run
from benchmarks.pace import wait_until
from benchmarks.stomp_clients import encode_stamp, split_stamps
from pushcluster_contract.destinations import Destination
from pushcluster_contract.keys import Keys
from pushcluster_contract.topology import Queue
from pushcluster_dispatcher.log.entries import AppendRefused
from pushcluster_dispatcher.log.user_log import Fence, UserLog
from pushcluster_dispatcher.messages import Message
from pushcluster_dispatcher.settings import Retention
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, Delivery
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.client import connect
from pushcluster_runtime.redis.wire import RedisWire

QUORUM: Final = Queue("benchmark.quorum", {"x-queue-type": "quorum"})
TRANSIENT: Final = Queue("benchmark.transient", {"x-queue-type": "classic"}, exclusive=True)
PERSISTENT: Final[Literal[2]] = 2
WITHIN_S: Final = 10.0
RETENTION: Final = Retention(
    offline_ttl_ms=86_400_000, max_entries=100, resume_window_ms=120_000, idempotency_window_ms=600_000
)


async def quorum(*, url: str, per_s: float, count: int, body_bytes: int) -> list[float]:
    """Return the seconds from publish to consumer, each acknowledged."""
    return await _pass_on(url, QUORUM, PERSISTENT, per_s, count, body_bytes)


async def transient(*, url: str, per_s: float, count: int, body_bytes: int) -> list[float]:
    """Return the seconds from publish to a consumer that does not acknowledge."""
    return await _pass_on(url, TRANSIENT, None, per_s, count, body_bytes)


async def append(*, url: str, per_s: float, count: int, body_bytes: int) -> list[float]:
    """Return the seconds that an append to a stream takes until Redis answers."""
    key = f"benchmark-{secrets.token_hex(6)}"
    taken: list[float] = []
    async with connect(url, name="benchmark") as client:
        try:
            begin = time.monotonic()
            for number in range(count):
                await wait_until(begin + number / per_s)
                sent = time.monotonic()
                await client.xadd(key, {"body": b"." * body_bytes})
                taken.append(time.monotonic() - sent)
        finally:
            await client.unlink(key)
    return taken


async def script(*, url: str, per_s: float, count: int, body_bytes: int) -> list[float]:
    """Return the seconds that an append takes as a dispatcher makes it, to the log of a user without sessions."""
    keys = Keys(f"benchmark-{secrets.token_hex(6)}")
    taken: list[float] = []
    wire = await RedisWire.connect(url, name="benchmark")
    log = UserLog(wire, keys, RETENTION, Fence(0, 1), backoff=Backoff(lambda: 0.5))
    message = Message("alice", Destination("queue", "demo"), b"." * body_bytes)
    begin = time.monotonic()
    for number in range(count):
        await wait_until(begin + number / per_s)
        sent = time.monotonic()
        (result,) = await log.append([message], [b"1-%d" % (number + 1)])
        taken.append(time.monotonic() - sent)
        if isinstance(result, AppendRefused):
            raise TypeError(f"Redis refused an append, so the figure would be wrong: {result.reason}")
    wire.close()
    return taken


async def _pass_on(
    url: str, queue: Queue, delivery_mode: Literal[2] | None, per_s: float, count: int, body_bytes: int
) -> list[float]:
    ages: list[float] = []
    amqp = await AmqpConnection.connect(url, name="benchmark", heartbeat_s=60)
    channel = await amqp.channel(confirm=True)
    await channel.declare_queue(queue)
    await channel.consume(queue.name, _note_age(channel, ages, ack=not queue.exclusive), no_ack=queue.exclusive)
    properties, rest = BasicProperties(delivery_mode=delivery_mode), body_bytes - len(encode_stamp(0.0))
    begin = time.monotonic()
    for number in range(count):
        await wait_until(begin + number / per_s)
        body = encode_stamp(time.monotonic()) + b"." * rest
        channel.publish("", queue.name, body, properties, mandatory=False)
    async with asyncio.timeout(WITHIN_S):
        while len(ages) < count:
            await asyncio.sleep(0.01)
    await channel.delete_queue(queue.name)
    await amqp.close()
    return ages


def _note_age(channel: AmqpChannel, ages: list[float], *, ack: bool) -> Callable[[Delivery], None]:
    def note(delivery: Delivery) -> None:
        now = time.monotonic()
        ages.extend(now - stamp for stamp in split_stamps(delivery.body)[0])
        if ack:
            channel.ack(delivery.tag)

    return note


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    return {handler.__name__: handler for handler in (quorum, transient, append, script)}


if __name__ == "__main__":
    run(make_handlers)
