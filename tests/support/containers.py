"""The Redis and RabbitMQ of a test session, and faults to put them through."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from local_run.containers import Container, ContainerSpec, rabbitmq_is_ready, redis_is_ready, remove_orphans
from local_run.images import find_image
from local_run.reaper import Reaper
from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES

READY_WITHIN_S: Final = 60.0
USER: Final = "test"
MANAGEMENT_PORT: Final = 15672

_RABBITMQ_CONF: Final = """
log.console = true
log.console.level = warning
log.file = false
listeners.tcp.default = 5672
default_user = {user}
default_pass = {password}
loopback_users = none
default_queue_type = quorum
total_memory_available_override_value = 512MB
vm_memory_high_watermark.relative = 0.6
disk_free_limit.absolute = 100MB
management_agent.disable_metrics_collector = true
max_message_size = {max_message_size}
"""


def redis_spec(password: str) -> ContainerSpec:
    """Return Redis as production has it: nothing answered is lost, nothing is evicted."""
    return ContainerSpec(
        name="redis",
        image=find_image("redis"),
        ports=(6379,),
        is_ready=lambda port: redis_is_ready(port, password),
        command=(
            *("redis-server", "--requirepass", password, "--dir", "/data"),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--maxmemory", "200mb", "--maxmemory-policy", "noeviction"),
        ),
        volumes=("/data",),
    )


def rabbitmq_spec(password: str) -> ContainerSpec:
    """Return one broker with the management API, which makes a vhost in milliseconds; `rabbitmqctl` takes seconds."""
    return ContainerSpec(
        name="rabbitmq",
        image=find_image("rabbitmq"),
        ports=(5672, MANAGEMENT_PORT),
        is_ready=rabbitmq_is_ready,
        command=("rabbitmq-server",),
        env={"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"},
        files={
            "/etc/rabbitmq/rabbitmq.conf": _RABBITMQ_CONF.format(
                user=USER, password=password, max_message_size=BROKER_MAX_MESSAGE_BYTES
            ).encode(),
            "/etc/rabbitmq/enabled_plugins": b"[rabbitmq_management].\n",
        },
        volumes=("/var/lib/rabbitmq",),
        hostname="rabbitmq",
    )


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
    remove_orphans()
    reaper = Reaper()
    try:
        specs = (redis_spec(password), rabbitmq_spec(password))
        with ThreadPoolExecutor() as pool:
            redis, rabbitmq = pool.map(lambda spec: _start(spec, reaper), specs)
        yield Services(redis, rabbitmq, password)
    finally:
        reaper.close()


def _start(spec: ContainerSpec, reaper: Reaper) -> Container:
    container = Container.run(spec, reaper, run_id="tests")
    container.wait_ready(READY_WITHIN_S)
    return container


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
