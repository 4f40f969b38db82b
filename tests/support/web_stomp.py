"""RabbitMQ's own STOMP over WebSocket, its plugin web_stomp, in a container of its own."""

import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from pika.spec import BasicProperties

from local_run.containers import Container, remove_orphans
from local_run.reaper import Reaper
from pushcluster_runtime.amqp import Amqp, AmqpChannel, Outcome
from tests.support.containers import MANAGEMENT_PORT, READY_WITHIN_S, USER, rabbitmq_spec

WEB_STOMP_PORT: Final = 15674
PLUGINS_FILE: Final = "/etc/rabbitmq/enabled_plugins"
PROBE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class WebStomp:
    """A broker that speaks STOMP."""

    container: Container
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.container.host_port}/ws"

    @property
    def amqp_url(self) -> str:
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.container.host_ports[5672]}/%2f"

    @property
    def credentials(self) -> str:
        return f"login:{USER}\npasscode:{self.password}\n"


@contextmanager
def running_web_stomp() -> Iterator[WebStomp]:
    """Start the broker with the plugin, and remove it at the end of the block."""
    password = secrets.token_hex(16)
    spec = rabbitmq_spec(password)
    plugins = b"[rabbitmq_management,rabbitmq_web_stomp].\n"
    # A queue that SUBSCRIBE declares is there sooner as a classic one, and behaves the same to STOMP.
    conf = {path: data.replace(b"= quorum", b"= classic") for path, data in spec.files.items()}
    remove_orphans()
    reaper = Reaper()
    try:
        container = Container.run(
            replace(
                spec,
                name="web-stomp",
                ports=(WEB_STOMP_PORT, 5672, MANAGEMENT_PORT),
                is_ready=_answers_http,
                files={**conf, PLUGINS_FILE: plugins},
            ),
            reaper,
            run_id="tests",
        )
        container.wait_ready(READY_WITHIN_S)
        yield WebStomp(container, password)
    finally:
        reaper.close()


def _answers_http(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(5) == b"HTTP/"


@asynccontextmanager
async def publishing(amqp_url: str) -> AsyncIterator["Publisher"]:
    """Connect a publisher to the broker's default exchange."""
    amqp = await Amqp.connect(amqp_url, name="test-web-stomp")
    try:
        yield Publisher(await amqp.channel(confirm=True))
    finally:
        await amqp.close()


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes to queues by name."""

    channel: AmqpChannel

    async def publish(self, queue: str, body: bytes) -> None:
        assert await self.channel.publish("", queue, body, BasicProperties(), mandatory=True) is Outcome.CONFIRMED, (
            queue
        )
