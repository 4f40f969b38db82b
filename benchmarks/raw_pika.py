"""What a dispatcher is compared with: pika alone, which consumes from one queue and publishes to another.

It uses pika's own asyncio connection as pika's documentation shows it: prefetch 500, `basic_ack(multiple)` every 100
messages, and publishes without confirms. It runs in a process of its own, and the figure is that process's time.
"""

import asyncio
import json
import sys
import time
from typing import Any, Final

import pika
import uvloop
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.spec import BasicProperties

SOURCE: Final = "benchmark.raw.source"
TARGET: Final = "benchmark.raw.target"
PREFETCH: Final = 500
ACK_EVERY: Final = 100


async def measure(amqp_url: str, *, messages: int, body_bytes: int) -> float:
    """Return the processor seconds that pika takes for this many messages."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.raw_pika", str(messages), str(body_bytes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await process.communicate(amqp_url.encode())
    return float(json.loads(answer)["cpu_s"])


class _Run:
    def __init__(self, url: str, messages: int, body_bytes: int) -> None:
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._left = messages
        self._body = b"x" * body_bytes
        self._messages = messages
        self._began_s = 0.0
        self._properties = BasicProperties(headers={"destination": "/queue/demo"}, delivery_mode=2)
        AsyncioConnection(
            pika.URLParameters(url),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened),
            on_open_error_callback=lambda _, error: self.done.set_exception(RuntimeError(str(error))),
            custom_ioloop=asyncio.get_running_loop(),
        )

    def _opened(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        arguments = {"x-queue-type": "classic", "x-max-length": 1_000}
        channel.queue_declare(TARGET, exclusive=True, arguments=arguments)
        channel.queue_declare(
            SOURCE, exclusive=True, arguments={"x-queue-type": "classic"}, callback=lambda _: self._fill(channel)
        )

    def _fill(self, channel: Any) -> None:
        for _ in range(self._messages):
            channel.basic_publish("", SOURCE, self._body, self._properties)
        channel.queue_declare(SOURCE, passive=True, callback=lambda _: self._consume(channel))

    def _consume(self, channel: Any) -> None:
        self._began_s = time.process_time()
        channel.basic_consume(SOURCE, self._take)

    def _take(self, channel: Any, deliver: Any, properties: BasicProperties, body: bytes) -> None:
        channel.basic_publish("", TARGET, body, properties)
        self._left -= 1
        if self._left % ACK_EVERY == 0:
            channel.basic_ack(deliver.delivery_tag, multiple=True)
        if self._left == 0:
            # The answer to this comes after all publishes.
            channel.queue_declare(TARGET, passive=True, callback=lambda _: self._finish())

    def _finish(self) -> None:
        self.done.set_result(time.process_time() - self._began_s)


async def _main() -> None:
    url = sys.stdin.readline().strip()
    cpu_s = await _Run(url, int(sys.argv[1]), int(sys.argv[2])).done
    sys.stdout.write(json.dumps({"cpu_s": cpu_s}))


if __name__ == "__main__":
    uvloop.run(_main())
