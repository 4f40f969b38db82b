"""RabbitMQ's own STOMP over WebSocket, its plugin web_stomp, in a container of its own."""

import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from pika.spec import BasicProperties

from local_run.containers import Container
from local_run.stores import READY_WITHIN_S, USER, WEB_STOMP_PORT, build_rabbitmq, running
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, ConfirmOutcome
from tests.support.waiting import eventually_sync

PROBE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class WebStomp:
    """A broker that speaks STOMP."""

    container: Container
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.container.host_ports[WEB_STOMP_PORT]}/ws"

    @property
    def amqp_url(self) -> str:
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.container.host_port}/%2f"

    @property
    def credentials(self) -> str:
        return f"login:{USER}\npasscode:{self.password}\n"


@contextmanager
def running_web_stomp() -> Iterator[WebStomp]:
    """Start the broker with the plugin, and remove it at the end of the block."""
    password = secrets.token_hex(16)
    # A queue that SUBSCRIBE declares is there sooner as a classic one, and behaves the same to STOMP.
    spec = build_rabbitmq(
        password,
        memory="512MB",
        plugins=("rabbitmq_management", "rabbitmq_web_stomp"),
        published=(WEB_STOMP_PORT,),
        default_queue_type="classic",
    )
    with running(replace(spec, name="web-stomp"), run_id="tests") as (container,):
        _wait_web_stomp(container)
        yield WebStomp(container, password)


def _wait_web_stomp(container: Container) -> None:
    """The plugin listens later than AMQP does."""
    port = container.host_ports[WEB_STOMP_PORT]
    eventually_sync(lambda: _answers_http(port), READY_WITHIN_S, what="web_stomp answers", not_yet=OSError)


def _answers_http(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(5) == b"HTTP/"


@asynccontextmanager
async def publishing(amqp_url: str) -> AsyncIterator["Publisher"]:
    """Connect a publisher to the broker's default exchange."""
    amqp = await AmqpConnection.connect(amqp_url, name="test-web-stomp")
    try:
        yield Publisher(await amqp.channel(confirm=True))
    finally:
        await amqp.close()


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes to queues by name."""

    channel: AmqpChannel

    async def publish(self, queue: str, body: bytes) -> None:
        assert (
            await self.channel.publish("", queue, body, BasicProperties(), mandatory=True) is ConfirmOutcome.CONFIRMED
        ), queue
