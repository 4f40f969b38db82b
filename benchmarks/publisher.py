"""A back end that publishes as cheaply as it can. It encodes each user's AMQP frames once and changes only the stamp.

`python -m benchmarks.publisher` runs as a child process (see `child.py`). Its cost is not counted as the product's.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, cast

from pika import frame, spec
from pika.spec import BasicProperties

from benchmarks.child import Handler, run
from benchmarks.pace import wait_until
from benchmarks.stomp_clients import STAMP_CHARS, STAMP_MARK, encode_stamp
from pushcluster_contract.headers import DESTINATION
from pushcluster_contract.topology import PUSH_EXCHANGE, build_topology
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection
from pushcluster_runtime.amqp.pika_connection import PikaConnection

MAX_UNCONFIRMED: Final = 4_000
"""How many publishes may be unconfirmed. Above this the publisher waits, as any careful back end does."""
UNCONFIRMED_PAUSE_S: Final = 0.001
"""How long it waits before it looks for confirms again."""
PERSISTENT: Final = 2


class Confirmed:
    """Counts confirms. They come in any order, and one may confirm everything up to a number."""

    def __init__(self) -> None:
        self._all_up_to = 0
        self._beyond: set[int] = set()

    @property
    def count(self) -> int:
        """How many publishes are confirmed."""
        return self._all_up_to + len(self._beyond)

    def settle(self, number: int, *, multiple: bool) -> None:
        """Apply one basic.ack."""
        if multiple:
            self._all_up_to = max(self._all_up_to, number)
            self._beyond = {each for each in self._beyond if each > self._all_up_to}
        elif number > self._all_up_to:
            self._beyond.add(number)
        while self._all_up_to + 1 in self._beyond:
            self._all_up_to += 1
            self._beyond.remove(self._all_up_to)


class Publisher:
    """The commands of this child process."""

    def __init__(self) -> None:
        self._amqp: AmqpConnection | None = None
        self._channel: AmqpChannel | None = None
        self._frames: list[tuple[bytes, bytes]] = []
        self._next = 0
        self._sent = 0
        self._confirms = Confirmed()

    async def open(self, *, url: str, users: list[str], body_bytes: int, web_stomp: bool = False) -> None:
        """Connect. `users` are routing keys; for web_stomp they are keys of amq.topic, and messages are transient."""
        if self._amqp is not None:
            await self._amqp.close()
        self._amqp = await AmqpConnection.connect(url, name="benchmark publisher", heartbeat_s=60)
        channel = self._channel = await self._amqp.channel()  # pika decodes confirms for its own callback
        if not web_stomp:
            await channel.declare(build_topology())
        raw = channel._raw
        raw.confirm_delivery(ack_nack_callback=self._on_confirm, callback=lambda _: None)
        exchange = "amq.topic" if web_stomp else PUSH_EXCHANGE
        headers = None if web_stomp else {DESTINATION: "/queue/demo"}
        properties = BasicProperties(headers=headers, delivery_mode=None if web_stomp else PERSISTENT)
        self._frames = [encode_publish(raw.channel_number, exchange, user, properties, body_bytes) for user in users]
        self._next = self._sent = 0
        self._confirms = Confirmed()
        self._send = cast(PikaConnection, raw.connection)._output_marshaled_frames

    async def burst(self, *, count: int) -> int:
        """Publish `count` messages as fast as confirms allow. Return how many were published since `open`."""
        while count:
            room = min(count, MAX_UNCONFIRMED - (self._sent - self._confirms.count), 256)
            if room > 0:
                self._publish(room, time.monotonic())
                count -= room
            await asyncio.sleep(0 if room > 0 else UNCONFIRMED_PAUSE_S)
        return self._sent

    async def steady(self, *, per_s: float, seconds: float) -> Mapping[str, float]:
        """Publish at a rate. Stamps are the planned times, so a delay in the publisher counts as latency too."""
        begin = time.monotonic()
        total, sent, lag = int(per_s * seconds), 0, 0.0
        while sent < total:
            await wait_until(begin + sent / per_s)
            now = time.monotonic()
            lag = max(lag, now - begin - sent / per_s)
            due = min(total, int((now - begin) * per_s) + 1)
            while sent < due and self._sent - self._confirms.count < MAX_UNCONFIRMED:
                self._publish(1, begin + sent / per_s)
                sent += 1
            if sent < due:
                await asyncio.sleep(UNCONFIRMED_PAUSE_S)
        return {"sent": sent, "seconds": time.monotonic() - begin, "lag_s": lag}

    async def wait_confirmed(self) -> int:
        """Wait until every publish is confirmed. Return how many were."""
        while self._confirms.count < self._sent:
            await asyncio.sleep(0.005)
        return self._confirms.count

    def _publish(self, count: int, stamp: float) -> None:
        mark = encode_stamp(stamp)
        frames = self._frames
        size = len(frames)
        position = self._next
        chosen = [frames[(position + n) % size] for n in range(count)]
        self._send([b"".join((head, mark, tail)) for head, tail in chosen])
        self._next = (position + count) % size
        self._sent += count

    def _on_confirm(self, frame_: Any) -> None:
        method = frame_.method
        if not isinstance(method, spec.Basic.Ack):
            raise TypeError("the broker refused a message, so the figure would be wrong")
        self._confirms.settle(method.delivery_tag, multiple=method.multiple)


def encode_publish(
    channel: int, exchange: str, routing_key: str, properties: BasicProperties, body_bytes: int
) -> tuple[bytes, bytes]:
    """Return the frames of one publish, before and after the stamp in its body."""
    stamp_bytes = len(STAMP_MARK) + STAMP_CHARS
    body = b"." * (body_bytes - stamp_bytes)
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key)
    head = frame.Method(channel, method).marshal()
    header = frame.Header(channel, body_bytes, properties).marshal()
    content = frame.Body(channel, b"\0" * stamp_bytes + body).marshal()
    before = content[: -(body_bytes + 1)]
    return head + header + before, body + content[-1:]


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    publisher = Publisher()
    handlers: list[Handler] = [publisher.open, publisher.burst, publisher.steady, publisher.wait_confirmed]
    return {handler.__name__: handler for handler in handlers}


if __name__ == "__main__":
    run(make_handlers)
