"""A gateway's sockets, sessions and hub without Redis and RabbitMQ, and a bare protocol to compare them with.

`python -m benchmarks.loopback` runs as a child process (see `child.py`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from benchmarks.child import Handler, cpu_s, run
from benchmarks.sampled import Sampler
from pushcluster_contract.batch import Address, encode_batch, encode_copy, parse_batch, parse_copy
from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import ZERO_ID, session_id
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.auth.authenticator import TrustedAuthenticator
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.client import Client, Rejected
from pushcluster_gateway.session.delivery import LogPage, LogState, ReadPage
from pushcluster_gateway.session.hub import Hub
from pushcluster_gateway.session.outcomes import OutcomeReporter
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_gateway.stomp.serializer import TailEncoder
from pushcluster_gateway.transport.admission import Admission
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.handshake import HandshakeResult
from pushcluster_gateway.transport.server import WebSocketServer

DEMO: Final = Destination("queue", "demo")
BODY_BYTES: Final = 200
BATCH_COPIES: Final = 100
MAX_BACKLOG_BYTES: Final = 16_777_216
"""Bytes that may wait in all transports together. Above this, pushing pauses, so that no client falls into CATCHUP."""


class InstantServices:
    """Implements `ports.Services`: every log is empty, and every call succeeds at once."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.metrics = Metrics()
        self.tails = TailEncoder()
        self.outcomes = OutcomeReporter(
            lambda *_: None,
            pod_name="gateway-benchmark",
            metrics=self.metrics,
            call_later=asyncio.get_running_loop().call_later,
            clock=asyncio.get_running_loop().time,
        )
        self.server_name = "PushCluster/benchmark"
        self.pod_name = "gateway-benchmark"
        self.clock = asyncio.get_running_loop().time
        self.wall_clock = time.time
        self.hub = Hub()
        self._sessions = 0

    def redis_now_ms(self) -> int:
        """See ClientServices."""
        return int(self.wall_clock() * 1_000)

    def new_session_id(self) -> str:
        """See ClientServices."""
        self._sessions += 1
        return session_id(self._sessions.to_bytes(17, "little"))

    def authenticate(self, client: Client, request: Connect, handshake_token: str) -> None:
        """See ClientServices."""
        client.authenticated(request, TrustedAuthenticator().identify(request, handshake_token))

    def register(self, client: Client) -> None:
        """See ClientServices."""
        self.hub.add(client)
        client.registered()

    def leave(self, client: Client) -> None:
        """See ClientServices."""
        self.hub.remove(client)

    def subscribe(self, client: Client, subscription: Subscription) -> None:
        """See ClientServices."""
        self.hub.add_subscription(subscription)
        asyncio.get_running_loop().call_soon(self._subscribed, client, subscription)

    def _subscribed(self, client: Client, subscription: Subscription) -> None:
        subscription.subscribed(LogState(0, ZERO_ID, ZERO_ID, ZERO_ID, 1))
        client.call_ended()

    def unsubscribe(self, client: Client, subscription: Subscription) -> None:  # noqa: ARG002 - the protocol's shape
        """See ClientServices."""
        self.hub.remove_subscription(subscription)

    def read_page(self, subscription: Subscription, asked: ReadPage) -> None:
        """See ClientServices."""
        asyncio.get_running_loop().call_soon(
            subscription.client.page_ended, subscription, asked, LogPage((), cut=False)
        )

    def reject(self, client: Client, rejected: Sequence[Rejected], receipt: str | None) -> None:
        """See ClientServices."""

    def cursor_moved(self, subscription: Subscription) -> None:
        """See ClientServices."""
        subscription.flush_scheduled = True


class Loopback:
    """The commands of this child process."""

    def __init__(self) -> None:
        services = self._services = InstantServices()
        self._copies = CopyReader(services.hub, services.metrics, on_left_out=lambda: None)
        self._bare: list[asyncio.Transport] = []
        self._seq = 0

    async def serve(self) -> int:
        """Listen as a gateway does. Return the port."""
        services = self._services

        def open_client(connection: WebSocketConnection, handshake: HandshakeResult) -> Client:
            return Client(services, connection, handshake.subprotocol, handshake.token)

        self._server = WebSocketServer(
            limits=services.limits,
            admission=Admission(max_connections=20_000, handshakes_per_s=0, now=services.clock(), random=lambda: 0.0),
            allowed_origins=(),
            metrics=services.metrics,
            clock=services.clock,
            handler_factory=open_client,
        )
        return await self._server.start("127.0.0.1", 0)

    async def push(
        self, *, users: list[str], rounds: int, joined: int, parsed: bool, profile: bool = False
    ) -> Mapping[str, Any]:
        """Give `joined` copies to each user's sessions in each round, and return the cost.

        A round is one tick of the event loop. With `parsed`, the batches are parsed before the measurement begins.
        """
        body = b"x" * BODY_BYTES
        before_bytes = self._written_bytes()
        before = self._services.metrics.messages_written
        sampler = Sampler() if profile else None
        used = 0.0
        for _ in range(rounds):
            batches = self._build_batches(users, joined, body)
            copies = [copy for batch in batches for copy in _take_apart(batch)] if parsed else []
            begin = cpu_s()
            if sampler is not None:
                sampler.start()
            if parsed:
                self._give(copies)
            else:
                for batch in batches:
                    self._copies.read_gateway_batch(batch)
            await asyncio.sleep(0)  # let the connections flush
            if sampler is not None:
                sampler.stop()
            used += cpu_s() - begin
            while self._backlog_bytes() > MAX_BACKLOG_BYTES:
                await asyncio.sleep(0.001)
        pushes = self._services.metrics.messages_written - before
        return {
            "cpu_s": used,
            "pushes": pushes,
            "frame_bytes": (self._written_bytes() - before_bytes) / max(pushes, 1),
            "holes": self._services.metrics.holes,
            "samples": sampler.counts if sampler is not None else {},
        }

    def _give(self, copies: Sequence[tuple[bytes, LogEntry]]) -> None:
        addressed = self._services.hub.addressed
        for address, entry in copies:
            for subscription in addressed(address):
                subscription.copy_arrived(entry)

    def _build_batches(self, users: list[str], joined: int, body: bytes) -> list[bytes]:
        """Return what a dispatcher would send for `joined` messages to each user, in each user's order."""
        copies = []
        for _ in range(joined):
            self._seq += 1
            stream_id = b"1700000000000-%d" % self._seq
            copies += [encode_copy(Address.of(user, DEMO), stream_id, body) for user in users]
        return [encode_batch(copies[n : n + BATCH_COPIES]) for n in range(0, len(copies), BATCH_COPIES)]

    async def serve_bare(self) -> int:
        """Listen with a protocol that only collects connections. Return the port."""
        listener = await asyncio.get_running_loop().create_server(lambda: _Bare(self._bare), "127.0.0.1", 0)
        return int(listener.sockets[0].getsockname()[1])

    async def push_bare(self, *, rounds: int, joined: int, frame_bytes: int) -> Mapping[str, Any]:
        """Write `joined` frames in one write to every bare connection, and return the cost."""
        frames = [b"x" * frame_bytes for _ in range(joined)]
        used = 0.0
        for _ in range(rounds):
            begin = cpu_s()
            for transport in self._bare:
                transport.write(b"".join(frames))
            await asyncio.sleep(0)
            used += cpu_s() - begin
            while sum(transport.get_write_buffer_size() for transport in self._bare) > MAX_BACKLOG_BYTES:
                await asyncio.sleep(0.001)
        return {"cpu_s": used, "pushes": rounds * joined * len(self._bare)}

    async def sessions(self) -> int:
        """Return the number of sessions."""
        return len(self._services.hub)

    def _written_bytes(self) -> int:
        return sum(connection.outbox.written_bytes for connection in self._server.connections)

    def _backlog_bytes(self) -> int:
        return self._written_bytes() - sum(c.sample_accepted() for c in self._server.connections)


class _Bare(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(transport)  # type: ignore[arg-type]


def _take_apart(batch: bytes) -> list[tuple[bytes, LogEntry]]:
    return [(address, parse_copy(batch, place)) for address, place in parse_batch(batch)]


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    loopback = Loopback()
    handlers: list[Callable[..., Awaitable[Any]]] = [
        loopback.serve,
        loopback.push,
        loopback.serve_bare,
        loopback.push_bare,
        loopback.sessions,
    ]
    return {handler.__name__: handler for handler in handlers}


if __name__ == "__main__":
    run(make_handlers)
