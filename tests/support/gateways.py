"""A gateway in this process against real services, and a dispatcher in miniature: append, then send the copies."""

import asyncio
import atexit
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import jwt
from pika.spec import BasicProperties
from redis.asyncio import Redis

from pushcluster_contract import env
from pushcluster_contract.batch import BATCH_TYPE, Address, encode_batch, encode_copy
from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation, StreamId
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import META_EXTRA_TTL_MS
from pushcluster_contract.log_entry import encode_headers
from pushcluster_contract.outcomes import ReplyAddress
from pushcluster_contract.routing import RoutingMode, plan_copies
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_contract.tokens import HS256_KEY
from pushcluster_contract.topology import build_topology
from pushcluster_dispatcher.log.entries import parse_sessions, parse_without_queue
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.main import ListeningPorts, serve
from pushcluster_gateway.settings import Settings
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, ConfirmOutcome
from pushcluster_runtime.redis.client import ScriptRunner, connect
from pushcluster_runtime.settings import EnvironmentVariables
from tests.support.appends import DAY_MS, append_call
from tests.support.fake_services import JWT_KEY, QUEUE
from tests.support.waiting import WITHIN_S

CLOCK_ERROR_MS: Final = 2_000
"""A gateway estimates Redis TIME from an answer, which a busy machine may read so much too late."""


def token(user: str, **claims: object) -> str:
    """Return a token that `running_gateway` accepts, for a day unless `exp` says otherwise."""
    return jwt.encode({"sub": user, "exp": in_s(86_400), **claims}, JWT_KEY, algorithm="HS256")


@dataclass
class RunningGateway:
    """A gateway that serves."""

    ports: ListeningPorts
    stop: asyncio.Event
    task: asyncio.Task[None]
    pod_name: str

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.ports.websocket}/ws"

    @property
    def incarnation(self) -> Incarnation:
        return self.ports.incarnation

    async def admin(self, path: str) -> tuple[int, str]:
        """GET from the admin server: (status, text)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports.admin)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()

    async def is_ready(self) -> bool:
        return await self.admin("/readyz") == (200, "ready\n")

    async def metric(self, name: str) -> float:
        """Return a metric's value; with labels, write them as the page does."""
        _, text = await self.admin("/metrics")
        for line in text.splitlines():
            if line.startswith(f"pushcluster_gateway_{name} "):
                return float(line.split()[-1])
        return 0.0

    async def drain(self, within_s: float = WITHIN_S) -> None:
        """Do what SIGTERM does, and wait for the end."""
        self.stop.set()
        async with asyncio.timeout(within_s):
            await self.task

    async def kill(self) -> None:
        """End without any farewell to Redis, as kill -9 does."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@cache
def keys_directory() -> str:
    """Return a directory with JWT_KEY, as the kubelet mounts a Secret; it goes with the process."""
    directory = tempfile.TemporaryDirectory(prefix="pushcluster-keys-", ignore_cleanup_errors=True)
    atexit.register(directory.cleanup)
    Path(directory.name, HS256_KEY).write_text(JWT_KEY)
    return directory.name


def environment_of(plane: Any, **variables: str) -> dict[str, str]:
    """Return a gateway's environment; `variables` are environment variables by their name in `contract.env`."""
    defaults = {
        env.CLUSTER: plane.cluster,
        env.POD_NAME: f"gateway-{secrets.token_hex(3)}",
        env.POD_UID: secrets.token_hex(8),
        env.AMQP_URL: plane.amqp_url,
        env.REDIS_URL: plane.redis_url,
        env.AUTH_KEYS_DIRECTORY: keys_directory(),
        env.LISTEN_HOST: "127.0.0.1",
        env.WS_PORT: "0",
        env.ADMIN_PORT: "0",
        env.DRAIN_SECONDS: "1",
    }
    return {**defaults, **{getattr(env, name): value for name, value in variables.items()}}


@asynccontextmanager
async def running_gateway(
    plane: Any, *, limits: Limits | None = None, **variables: str
) -> AsyncIterator[RunningGateway]:
    """Run a gateway in this process until the end of the block; `variables` as for `environment_of`."""
    settings = Settings.parse(EnvironmentVariables(environment_of(plane, **variables)))
    started: asyncio.Future[ListeningPorts] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(serve(settings, stop, limits=limits, on_started=started.set_result))
    waited: list[asyncio.Future[Any]] = [task, started]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    gateway = RunningGateway(started.result(), stop, task, settings.pod_name)
    try:
        yield gateway
    finally:
        if not stop.is_set():
            await gateway.kill()


@dataclass
class Backend:
    """Appends messages and sends copies, as a dispatcher does."""

    redis: Redis
    scripts: ScriptRunner
    keys: Keys
    channel: AmqpChannel
    mode: RoutingMode = RoutingMode.SESSION
    max_entries: int = 1_000
    send_copies: bool = True
    """False: every copy gets lost on its way."""
    outcomes: list[ConfirmOutcome] = field(default_factory=list)

    async def push(
        self,
        user: str,
        body: bytes | str,
        *,
        destination: Destination = QUEUE,
        message_id: str = "",
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
        expires_in_ms: int = 0,
        reply: ReplyAddress | None = None,
    ) -> str:
        """Append one message and send its copies, which ask for nothing; return its stream id."""
        payload = body.encode() if isinstance(body, str) else body
        call = append_call(
            self.keys,
            user,
            destination,
            payload,
            headers=encode_headers(headers or {}),
            content_type=content_type,
            message_id=message_id,
            ttl_ms=expires_in_ms,
            most=self.max_entries,
            meta_ms=DAY_MS + META_EXTRA_TTL_MS,
            reply="" if reply is None else reply.encode(),
        )
        stream_id, _, _, sessions, expires_ms, *_ = await self.scripts.run(Script.APPEND, call.keys, call.args)
        if self.send_copies:
            copy = encode_copy(
                Address.of(user, destination),
                stream_id,
                payload,
                content_type.encode(),
                message_id.encode(),
                encode_headers(headers or {}).encode(),
                expires_ms,
            )
            await self.send(destination, parse_sessions(sessions), encode_batch([copy]), parse_without_queue(sessions))
        return str(stream_id.decode())

    async def send(
        self,
        destination: Destination,
        subscribed: Mapping[str, Incarnation],
        batch: bytes,
        without_queue: Container[str] = (),
    ) -> None:
        """Send a batch of copies to wherever the mode has it."""
        for planned in plan_copies(self.mode, destination, subscribed, without_queue):
            copy = planned
            while copy is not None:
                properties = BasicProperties(type=BATCH_TYPE)
                outcome = await self.channel.publish(copy.exchange, copy.routing_key, batch, properties, mandatory=True)
                self.outcomes.append(outcome)
                if outcome is ConfirmOutcome.CONFIRMED or copy.fallback is None:
                    break
                copy = copy.fallback

    async def sessions(self, user: str) -> dict[str, SessionEntry]:
        """Return the registry's entries of a user."""
        entries: Any = await self.redis.hgetall(self.keys.sessions(user))
        return {sid.decode(): SessionEntry.parse(entry.decode()) for sid, entry in entries.items()}

    async def cursor(self, user: str, destination: Destination = QUEUE) -> StreamId | None:
        raw: Any = await self.redis.hget(self.keys.meta(user, destination), "cursor")
        return None if raw is None else StreamId.parse(raw.decode())

    async def leases(self) -> list[str]:
        members: Any = await self.redis.zrange(self.keys.gateways, 0, -1)
        return [member.decode() for member in members]

    async def members(self, incarnation: Incarnation) -> int:
        return int(await self.redis.scard(self.keys.gateway(incarnation)))


@asynccontextmanager
async def backend(plane: Any, mode: RoutingMode = RoutingMode.SESSION) -> AsyncIterator[Backend]:
    """Declare the cluster's topology and yield a Backend."""
    amqp = await AmqpConnection.connect(plane.amqp_url, name="test-backend")
    redis = connect(plane.redis_url, name="test-backend")
    try:
        channel = await amqp.channel(confirm=True)
        await channel.declare(build_topology())
        yield Backend(redis, ScriptRunner(redis), Keys(plane.cluster), channel, mode)
    finally:
        await amqp.close()
        await redis.aclose()


def in_s(seconds: float) -> int:
    """Return a JWT time that many seconds from now."""
    return int(time.time() + seconds)
