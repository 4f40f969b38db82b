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
from pushcluster_contract.topology import Queue
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, Delivery
from pushcluster_runtime.redis.client import connect

QUORUM: Final = Queue("benchmark.quorum", {"x-queue-type": "quorum"})
TRANSIENT: Final = Queue("benchmark.transient", {"x-queue-type": "classic"}, exclusive=True)
PERSISTENT: Final[Literal[2]] = 2
WITHIN_S: Final = 10.0


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
    return {handler.__name__: handler for handler in (quorum, transient, append)}


if __name__ == "__main__":
    run(make_handlers)
