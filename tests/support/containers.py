"""The Redis and RabbitMQ of a test session, and faults to put them through."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from local_run.containers import Container
from local_run.stores import MANAGEMENT_PORT, READY_WITHIN_S, USER, build_rabbitmq, build_redis, running


@dataclass(frozen=True, slots=True)
class Services:
    """Both containers, and how to reach them."""

    redis: Container
    rabbitmq: Container
    password: str = field(repr=False)

    @property
    def redis_url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.redis.host_port}/0"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.rabbitmq.host_ports[MANAGEMENT_PORT]}"

    def amqp_url(self, vhost: str) -> str:
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.rabbitmq.host_port}/{vhost}"


@contextmanager
def running_services(password: str) -> Iterator[Services]:
    """Start both at once and remove both at the end; raises LocalRunError with what is missing."""
    specs = build_redis(password, max_memory="200mb"), build_rabbitmq(password, memory="512MB")
    with running(*specs, run_id="tests") as (redis, rabbitmq):
        yield Services(redis, rabbitmq, password)


async def kill_and_start(container: Container) -> None:
    """`kill -9` the service, start it again on its data, and return when it is ready."""
    await asyncio.to_thread(container.kill)
    await start(container)


async def close_amqp_connections(services: Services, vhost: str) -> None:
    """Have the broker close every connection to the vhost (Connection.Close, CONNECTION_FORCED)."""
    command = ("rabbitmqctl", "close_all_connections", "--vhost", vhost, "a test asked for it")
    await asyncio.to_thread(services.rabbitmq.exec, *command)


async def close_amqp_connection(services: Services, name: str) -> None:
    """Do the same to the one connection that has given itself this name."""
    listing = ("rabbitmqctl", "--quiet", "list_connections", "pid", "client_properties")
    listed = await asyncio.to_thread(services.rabbitmq.exec, *listing)
    (pid,) = [line.split()[0] for line in listed.splitlines() if f'"{name}"' in line]
    await asyncio.to_thread(services.rabbitmq.exec, "rabbitmqctl", "close_connection", pid, "a test asked for it")


async def restart(container: Container) -> None:
    """Stop it politely, start it again on its data, and return when it is ready."""
    await asyncio.to_thread(container.stop)
    await start(container)


async def start(container: Container) -> None:
    """Start a stopped or killed service and return when it is ready."""
    await asyncio.to_thread(container.start)
    await asyncio.to_thread(container.wait_ready, READY_WITHIN_S)


@asynccontextmanager
async def paused(container: Container) -> AsyncIterator[None]:
    """Freeze the service inside the block: connections stay open and nothing answers."""
    await asyncio.to_thread(container.pause)
    try:
        yield
    finally:
        await asyncio.to_thread(container.unpause)


@asynccontextmanager
async def down(container: Container) -> AsyncIterator[None]:
    """Have the service killed inside the block: connections are refused."""
    await asyncio.to_thread(container.kill)
    try:
        yield
    finally:
        await start(container)
