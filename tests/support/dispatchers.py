"""A dispatcher as a process of its own, which can be killed, and a producer and a reader around it."""

import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any, Final, Protocol

import aiohttp
import pika
from pika.spec import BasicProperties
from prometheus_client.parser import text_string_to_metric_families

from pushcluster_contract import env
from pushcluster_contract.destinations import Destination
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import INGRESS_PARTITIONS
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.topology import PUSH_EXCHANGE, REJECTED_QUEUE, build_topology, ingress_queue
from pushcluster_runtime.amqp import (
    AmqpChannel,
    AmqpConnection,
    ConfirmOutcome,
    Delivery,
)
from pushcluster_runtime.redis.client import connect
from tests.support.waiting import WITHIN_S, eventually

DEMO: Final = Destination("queue", "demo")
API_KEY: Final = "a-key-of-the-tests"


class PlaneLike(Protocol):
    """The fixture `plane`."""

    @property
    def cluster(self) -> str: ...
    @property
    def amqp_url(self) -> str: ...
    @property
    def redis_url(self) -> str: ...


@dataclass
class RunningDispatcher:
    """One process."""

    process: asyncio.subprocess.Process
    pod_name: str
    has_api: bool
    session: aiohttp.ClientSession
    log_file: IO[bytes]

    @cached_property
    def admin_url(self) -> str:
        return self._url_logged_as("the admin server listens")

    @cached_property
    def api_url(self) -> str:
        return self._url_logged_as("the API server listens")

    def log(self) -> str:
        """Return what it has logged so far."""
        # Without a seek: the process writes at the position of the same open file.
        descriptor = self.log_file.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

    async def ready(self) -> tuple[bool, str]:
        """Return what /readyz says; not ready while nobody listens."""
        try:
            async with self.session.get(f"{self.admin_url}/readyz") as response:
                return response.status == 200, (await response.text()).strip()
        except (aiohttp.ClientConnectionError, AssertionError) as error:
            return False, str(error)

    async def wait_ready(self) -> None:
        async def is_ready() -> bool:
            ready, reason = await self.ready()
            assert ready, reason
            return bool(self.api_url) if self.has_api else True

        await eventually(is_ready)

    async def metric(self, name: str, **labels: str) -> float:
        """Return a counter's or gauge's value, 0 when it was never counted."""
        async with self.session.get(f"{self.admin_url}/metrics") as response:
            text = await response.text()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"pushcluster_dispatcher_{name}" and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    async def wait_for_metric(self, name: str, at_least: float, **labels: str) -> None:
        """Return once a counter has come that far; fails with its value when it does not."""

        async def reached() -> bool:
            assert await self.metric(name, **labels) >= at_least
            return True

        await eventually(reached)

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()

    async def terminate(self, within_s: float = WITHIN_S) -> int:
        """SIGTERM; return the exit code."""
        self.process.terminate()
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    def _url_logged_as(self, server: str) -> str:
        """Return where a server listens; fails while that is not in the log."""
        whole_lines = self.log().rpartition("\n")[0].splitlines()
        ports = [json.loads(line)["port"] for line in whole_lines if f'"{server}"' in line]
        assert ports, f"{self.pod_name} has logged no port of its {server} yet"
        return f"http://127.0.0.1:{ports[0]}"


@asynccontextmanager
async def running_dispatcher(plane: PlaneLike, **variables: str) -> AsyncIterator[RunningDispatcher]:
    """Run one until the end of the block, ready at its beginning; `variables` are those of `contract.env` by name."""
    async with started_dispatcher(plane, **variables) as dispatcher:
        await dispatcher.wait_ready()
        yield dispatcher


@asynccontextmanager
async def started_dispatcher(
    plane: PlaneLike, program: Sequence[str] = ("pushcluster_dispatcher",), **variables: str
) -> AsyncIterator[RunningDispatcher]:
    """Do the same without waiting for it."""
    pod_name = f"dispatcher-{secrets.token_hex(3)}"
    environment = {
        env.CLUSTER: plane.cluster,
        env.POD_NAME: pod_name,
        env.AMQP_URL: plane.amqp_url,
        env.REDIS_URL: plane.redis_url,
        env.LISTEN_HOST: "127.0.0.1",
        env.ADMIN_PORT: "0",
        env.API_PORT: "0",
        env.API_KEY: API_KEY,
        **{getattr(env, name): value for name, value in variables.items()},
    }
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", *program, env=environment, stderr=log)
        try:
            async with aiohttp.ClientSession() as session:
                has_api = variables.get("API_ENABLED") != "false"
                running = RunningDispatcher(process, pod_name, has_api, session, log)
                yield running
        except BaseException:
            sys.stderr.write(f"--- {pod_name} ---\n{running.log()}\n")
            raise
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@dataclass
class Producer:
    """Publishes as any back end would."""

    channel: AmqpChannel
    futures: list[asyncio.Future[ConfirmOutcome]] = field(default_factory=list)

    def send(self, user: str, body: bytes | str, **properties: Any) -> asyncio.Future[ConfirmOutcome]:
        """Publish; `destination` is the header's, the rest are AMQP's properties."""
        headers: dict[str, Any] = dict(properties.pop("headers", {}))
        destination = properties.pop("destination", str(DEMO))
        if destination is not None:
            headers["destination"] = destination
        data = body.encode() if isinstance(body, str) else body
        given = BasicProperties(headers=headers, delivery_mode=2, **properties)
        future = self.channel.publish(PUSH_EXCHANGE, user, data, given, mandatory=False)
        self.futures.append(future)
        return future

    async def confirmed(self) -> None:
        """Wait until everything sent so far is confirmed."""
        outcomes = [await future for future in self.futures]
        self.futures.clear()
        assert set(outcomes) <= {ConfirmOutcome.CONFIRMED}


@asynccontextmanager
async def producer(plane: PlaneLike) -> AsyncIterator[Producer]:
    """Connect a producer; the topology is there afterwards."""
    amqp = await AmqpConnection.connect(plane.amqp_url, name="producer")
    try:
        channel = await amqp.channel(confirm=True)
        await channel.declare(build_topology())
        yield Producer(channel)
    finally:
        await amqp.close()


@asynccontextmanager
async def consuming(plane: PlaneLike, queue: str = REJECTED_QUEUE) -> AsyncIterator[list[Delivery]]:
    """Collect what comes out of a queue."""
    amqp = await AmqpConnection.connect(plane.amqp_url, name="reader")
    try:
        channel = await amqp.channel()
        await channel.declare(build_topology())
        received: list[Delivery] = []
        await channel.consume(queue, received.append, no_ack=True)
        yield received
    finally:
        await amqp.close()


@dataclass(frozen=True, slots=True)
class Logs:
    """Users' logs as they stand in Redis."""

    redis: Any  # redis-py types replies as text or bytes or neither
    keys: Keys

    async def entries(self, user: str, destination: Destination = DEMO) -> list[LogEntry]:
        raw: list[tuple[bytes, Mapping[bytes, bytes]]] = await self.redis.xrange(self.keys.log(user, destination))
        return [LogEntry.from_stream(id_, fields) for id_, fields in raw]

    async def bodies(self, user: str, destination: Destination = DEMO) -> list[str]:
        return [entry.body.decode() for entry in await self.entries(user, destination)]

    async def length(self, user: str, destination: Destination = DEMO) -> int:
        return int(await self.redis.xlen(self.keys.log(user, destination)))

    async def register(self, user: str, sid: str, entry: str) -> None:
        """Write a session's entry as a gateway does."""
        await self.redis.hset(self.keys.sessions(user), sid, entry)


@asynccontextmanager
async def reading_logs(plane: PlaneLike) -> AsyncIterator[Logs]:
    client = connect(plane.redis_url, name="reader")
    try:
        yield Logs(client, Keys(plane.cluster))
    finally:
        await client.aclose()


async def count_left(plane: PlaneLike) -> int:
    """Return how many messages are in ingress, as soon as the broker knows that the last consumer is gone.

    Until then the broker does not count what that consumer had and did not acknowledge. Asks the queues themselves:
    `rabbitmqctl` and the management API tell what quorum queues reported up to 5 s ago.
    """

    def look() -> tuple[int, int]:
        with pika.BlockingConnection(pika.URLParameters(plane.amqp_url)) as connection:
            channel = connection.channel()
            queues = [channel.queue_declare(ingress_queue(n), passive=True) for n in range(INGRESS_PARTITIONS)]
            consumers = sum(queue.method.consumer_count for queue in queues)
            return consumers, sum(queue.method.message_count for queue in queues)

    async def without_consumers() -> tuple[int]:
        consumers, messages = await asyncio.to_thread(look)
        assert not consumers, f"{consumers} ingress queues still have a consumer"
        return (messages,)

    (left,) = await eventually(without_consumers)
    return left


async def wait_log(logs: "Logs", user: str, expected: list[str]) -> None:
    """Wait until a user's log holds these bodies, in this order."""

    async def is_there() -> bool:
        assert await logs.bodies(user) == expected
        return True

    await eventually(is_there)


async def all_acknowledged(plane: PlaneLike, dispatcher: RunningDispatcher, count: int) -> None:
    """Wait until the dispatcher has acknowledged so many; end it, and check that the broker agrees."""

    async def acknowledged() -> bool:
        assert await dispatcher.metric("acknowledged_total") == count
        return True

    await eventually(acknowledged)
    # Not by kill -9: the last acknowledgements may be on their way to the broker still.
    assert await dispatcher.terminate() == 0
    assert await count_left(plane) == 0
