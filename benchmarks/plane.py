"""The services and programs of a benchmark: Redis and RabbitMQ in containers, gateways and dispatchers as processes."""

import asyncio
import base64
import os
import secrets
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from benchmarks.measure import ProcessTimes
from benchmarks.processes import sample
from local_run.containers import Container, free_port
from local_run.docker import docker
from local_run.stores import (
    MANAGEMENT_PORT,
    NO_BUSY_WAITING,
    READY_WITHIN_S,
    USER,
    build_rabbitmq,
    build_redis,
    running,
)
from pushcluster_contract import env
from pushcluster_contract.routing import RoutingMode
from pushcluster_operator.children.rabbitmq import AMQP_PORT, METRICS_PORT, count_subscription_queues
from pushcluster_operator.children.redis import REDIS_PORT
from pushcluster_runtime.redis.client import connect

POLL_S: Final = 0.05
OWN_QUEUES_WITHIN_S: Final = 120.0
"""From the RECEIPTs to the queues of all subscriptions, in mode Session."""
BROKER_COUNTERS: Final = {
    "received": "rabbitmq_global_messages_received_total",
    "delivered": "rabbitmq_global_messages_delivered_total",
}


@dataclass(frozen=True, slots=True)
class Services:
    """Redis and RabbitMQ, at the containers' own addresses, because a published port goes through a proxy."""

    redis: Container
    rabbitmq: Container
    redis_host: str
    rabbitmq_host: str
    pids: Mapping[str, int]
    """`redis` and `rabbitmq`."""
    password: str = field(repr=False)

    @property
    def redis_url(self) -> str:
        """With the password."""
        return f"redis://:{self.password}@{self.redis_host}:{REDIS_PORT}/0"

    def amqp_url(self, vhost: str) -> str:
        """With the password."""
        return f"amqp://{USER}:{self.password}@{self.rabbitmq_host}:{AMQP_PORT}/{vhost}"

    async def create_vhost(self) -> str:
        """Make a vhost with a name that no other vhost has, and return the name."""
        name = f"b{secrets.token_hex(6)}.bench"
        await asyncio.to_thread(self._management, "PUT", f"/api/vhosts/{name}")
        return name

    async def delete_vhost(self, name: str) -> None:
        """Remove a vhost with all its queues."""
        await asyncio.to_thread(self._management, "DELETE", f"/api/vhosts/{name}")

    def _management(self, method: str, path: str) -> None:
        request = urllib.request.Request(f"http://{self.rabbitmq_host}:{MANAGEMENT_PORT}{path}", method=method)
        credentials = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=READY_WITHIN_S).close()

    async def rabbitmq_version(self) -> str:
        """Return the version that the broker reports."""
        return await asyncio.to_thread(self.rabbitmq.exec, "rabbitmqctl", "--quiet", "version")

    async def redis_version(self) -> str:
        """Return the version that Redis reports."""
        async with connect(self.redis_url, name="benchmark") as client:
            return str((await client.info("server"))["redis_version"])

    async def configure_redis(self, settings: Iterable[tuple[str, str]]) -> None:
        """Change settings while Redis runs.

        If this starts a rewrite of the append-only file, return once the rewrite is over.
        """
        async with connect(self.redis_url, name="benchmark") as client:
            for name, value in settings:
                await client.config_set(name, value)
            while (await client.info("persistence"))["aof_rewrite_in_progress"]:
                await asyncio.sleep(POLL_S)

    async def broker_counters(self) -> Mapping[str, float]:
        """Return how many messages the broker has received and delivered since it started, by its own count."""
        text = await asyncio.to_thread(_get, f"http://{self.rabbitmq_host}:{METRICS_PORT}/metrics")
        totals = dict.fromkeys(BROKER_COUNTERS, 0.0)
        for line in text.splitlines():
            for name, metric in BROKER_COUNTERS.items():
                if line.startswith((f"{metric}{{", f"{metric} ")):
                    totals[name] += float(line.rpartition(" ")[2])
        return totals


@contextmanager
def running_services() -> Iterator[Services]:
    """Start Redis and RabbitMQ, and remove both at the end."""
    password = secrets.token_hex(16)
    broker = build_rabbitmq(
        password,
        memory="3GB",
        plugins=("rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_web_stomp"),
        published=(),
        erlang=(NO_BUSY_WAITING,),
    )
    with running(build_redis(password, max_memory="2gb"), broker, run_id="benchmarks") as (redis, rabbitmq):
        pids = {"redis": _pid(redis), "rabbitmq": _pid(rabbitmq)}
        yield Services(redis, rabbitmq, _address(redis), _address(rabbitmq), pids, password)


@dataclass
class Program:
    """A gateway or dispatcher."""

    name: str
    process: asyncio.subprocess.Process
    admin_port: int
    ws_port: int
    log: IO[bytes]
    samples: Path
    """Where a program writes what its launcher has recorded; see `sampled.py`."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def metrics(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self.admin_port}/metrics")

    async def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels; 0 if it was never counted."""
        lines = (line for line in (await self.metrics()).splitlines() if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def wait_ready(self) -> None:
        """Return once /readyz reports ready. Raises RuntimeError with the program's log if it does not."""
        for _ in range(int(READY_WITHIN_S / POLL_S)):
            if self.process.returncode is not None:
                break
            try:
                await asyncio.to_thread(_get, f"http://127.0.0.1:{self.admin_port}/readyz")
            except OSError:
                await asyncio.sleep(POLL_S)
            else:
                return
        self.log.seek(0)
        raise RuntimeError(f"{self.name} did not become ready:\n{self.log.read()[-4_000:].decode(errors='replace')}")


@dataclass
class Plane:
    """One cluster: a vhost, the Redis keys under its name, and the programs that serve them."""

    services: Services
    vhost: str
    mode: RoutingMode
    launcher: str = ""
    """The module that runs its programs and records something about them: `sampled.py`, `arrivals.py`."""
    handshakes_per_s: int = 0
    """Of each gateway; 0: no limit."""
    gateways: list[Program] = field(default_factory=list)
    dispatchers: list[Program] = field(default_factory=list)

    @property
    def ports(self) -> list[int]:
        """The ports of the gateways' WebSockets."""
        return [gateway.ws_port for gateway in self.gateways]

    @property
    def cluster(self) -> str:
        """The cluster's name in Redis."""
        return self.vhost

    @property
    def redis_url(self) -> str:
        """With the password."""
        return self.services.redis_url

    @property
    def amqp_url(self) -> str:
        """The URL of its vhost, with the password."""
        return self.services.amqp_url(self.vhost)

    async def wait_own_queues(self, subscriptions: int) -> None:
        """In mode Session, return once so many subscriptions have a queue of their own. Raises TimeoutError."""
        if self.mode is not RoutingMode.SESSION:
            return
        async with asyncio.timeout(OWN_QUEUES_WITHIN_S):
            while await self._count_own_queues() < subscriptions:
                await asyncio.sleep(POLL_S)

    async def _count_own_queues(self) -> float:
        return sum([await each.metric("pushcluster_gateway_subscriptions_with_queue") for each in self.gateways])

    def times(self) -> ProcessTimes:
        """Return the processor time that the product has used so far: broker, Redis, dispatchers, gateways."""
        programs = {program.name: program.pid for program in (*self.dispatchers, *self.gateways)}
        return sample({**self.services.pids, **programs})


@dataclass(frozen=True, slots=True)
class Api:
    """Where the HTTP API of a dispatcher is."""

    port: int
    key: str = field(repr=False)

    @classmethod
    def fresh(cls) -> "Api":
        """Return a free port and a new key."""
        return cls(free_port(), secrets.token_hex(16))


@asynccontextmanager
async def running_plane(
    services: Services,
    mode: RoutingMode,
    *,
    gateways: int,
    dispatchers: int = 1,
    launcher: str = "",
    handshakes_per_s: int = 0,
    api: Api | None = None,
) -> AsyncIterator[Plane]:
    """Run a cluster until the end of the block. Everything is ready when the block begins.

    With `api`, the first dispatcher serves it.
    """
    plane = Plane(services, await services.create_vhost(), mode, launcher, handshakes_per_s)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(services.delete_vhost, plane.vhost)
        for number in range(dispatchers):
            running = running_dispatcher(plane, number, api=None if number else api)
            plane.dispatchers.append(await stack.enter_async_context(running))
        for number in range(gateways):
            plane.gateways.append(await stack.enter_async_context(running_gateway(plane, number)))
        await asyncio.gather(*(program.wait_ready() for program in (*plane.dispatchers, *plane.gateways)))
        yield plane


@asynccontextmanager
async def running_gateway(plane: Plane, number: int) -> AsyncIterator[Program]:
    """Run one gateway process. It may not be ready yet when the block begins."""
    ws_port = free_port()
    variables = {
        env.POD_UID: secrets.token_hex(8),
        env.WS_PORT: str(ws_port),
        env.MAX_CONNECTIONS: "20000",
        env.AUTH_MODE: "Trusted",
        env.HANDSHAKES_PER_SECOND: str(plane.handshakes_per_s),
        # The number that the operator would compute. Mode Session is measured with a queue for every subscription.
        env.SUBSCRIPTION_QUEUES: str(count_subscription_queues("3G")),
        env.DRAIN_SECONDS: "0",
    }
    async with _running(plane, f"gateway-{number}", "pushcluster_gateway", variables, ws_port) as program:
        yield program


@asynccontextmanager
async def running_dispatcher(plane: Plane, number: int, *, api: Api | None = None) -> AsyncIterator[Program]:
    """Run one dispatcher process, with or without its HTTP API. It may not be ready yet when the block begins."""
    variables = {env.API_ENABLED: "false"}
    if api is not None:
        variables = {env.API_PORT: str(api.port), env.API_KEY: api.key}
    async with _running(plane, f"dispatcher-{number}", "pushcluster_dispatcher", variables, 0) as program:
        yield program


@asynccontextmanager
async def _running(
    plane: Plane, name: str, module: str, variables: Mapping[str, str], ws_port: int
) -> AsyncIterator[Program]:
    admin_port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        env.CLUSTER: plane.vhost,
        env.POD_NAME: name,
        env.AMQP_URL: plane.amqp_url,
        env.REDIS_URL: plane.services.redis_url,
        env.ROUTING_MODE: plane.mode.value,
        env.LISTEN_HOST: "127.0.0.1",
        env.ADMIN_PORT: str(admin_port),
        env.LOG_LEVEL: "warning",
        **variables,
    }
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.json"
        command = [plane.launcher, str(samples), module] if plane.launcher else [module]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield Program(name, process, admin_port, ws_port, log, samples)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _address(container: Container) -> str:
    return docker("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container.id)


def _pid(container: Container) -> int:
    return int(docker("inspect", "--format={{.State.Pid}}", container.id))


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
