"""Services without Redis and RabbitMQ, for tests of what stands before them: sockets, STOMP, limits."""

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import ZERO_ID, StreamId, session_id
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport, ReplyAddress
from pushcluster_contract.tokens import HS256_KEY, Algorithm
from pushcluster_gateway.auth.authenticator import Authenticator, JwtAuthenticator, KeyUnknown
from pushcluster_gateway.auth.claims import ClaimRules
from pushcluster_gateway.auth.keyring import Keyring, parse_shared_keys
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.client import Client, Rejected
from pushcluster_gateway.session.delivery import LogPage, LogState, ReadPage
from pushcluster_gateway.session.outcomes import OutcomeReporter
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_gateway.stomp.errors import Unauthenticated
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_gateway.stomp.serializer import TailEncoder
from pushcluster_gateway.transport.admission import Admission
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.handshake import HandshakeResult
from pushcluster_gateway.transport.server import WHEEL_TICK_S, WebSocketServer
from tests.support.clock import ManualClock

QUEUE: Final = Destination("queue", "demo")
JWT_KEY: Final = "a key of the tests that is long enough"


@dataclass
class FixedKeys:
    """Keys that never change."""

    keyring: Keyring | None

    async def refresh(self) -> bool:
        return True


def shared_key_authenticator() -> JwtAuthenticator:
    """Return what a gateway makes of a Secret with JWT_KEY."""
    keyring = parse_shared_keys({HS256_KEY: JWT_KEY.encode()})
    return JwtAuthenticator(Algorithm.HS256, ClaimRules("sub", require_expiry=False), FixedKeys(keyring), time.time)


class FakeServices:
    """Grants everything at once; logs are lists."""

    def __init__(
        self, limits: Limits, authenticator: Authenticator | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self.tails = TailEncoder()
        self.authenticator = authenticator or shared_key_authenticator()
        self.reports: list[tuple[ReplyAddress, OutcomeReport]] = []
        """What producers were told."""
        self.outcomes = OutcomeReporter(
            lambda address, report: self.reports.append((address, report)),
            pod_name="gateway-test",
            metrics=self.metrics,
            call_later=asyncio.get_running_loop().call_later,
            clock=asyncio.get_running_loop().time,
        )
        self.server_name = "PushCluster/test"
        self.pod_name = "gateway-test"
        self.clock = clock or asyncio.get_running_loop().time
        self.wall_clock = time.time
        self.grant = True
        """False: CONNECT is never answered."""
        self.hold_calls = False
        """True: what clients ask for goes to `held_calls` instead of being done."""
        self.held_calls: list[Callable[[], None]] = []
        self.logs: dict[tuple[str, Destination], list[LogEntry]] = {}
        self.cursors: dict[tuple[str, Destination], StreamId] = {}
        """Where subscriptions start; a log that is not here has been got by nobody."""
        self.clients: list[Client] = []
        self.left: list[Client] = []
        self.subscriptions: list[Subscription] = []
        self.rejected: list[StreamId] = []
        self.moved: list[tuple[StreamId, StreamId]] = []
        self._sessions = 0

    def redis_now_ms(self) -> int:
        return int(self.wall_clock() * 1_000)

    def new_session_id(self) -> str:
        self._sessions += 1
        return session_id(self._sessions.to_bytes(17, "big"))

    def authenticate(self, client: Client, request: Connect, handshake_token: str) -> None:
        try:
            identity = self.authenticator.identify(request, handshake_token)
        except KeyUnknown as error:
            raise Unauthenticated(str(error)) from None
        client.authenticated(request, identity)

    def register(self, client: Client) -> None:
        self.clients.append(client)
        if self.grant:
            client.registered()

    def leave(self, client: Client) -> None:
        self.left.append(client)
        client.left()

    def subscribe(self, client: Client, subscription: Subscription) -> None:
        self.subscriptions.append(subscription)
        self._later(partial(self._grant_subscribe, client, subscription))

    def _grant_subscribe(self, client: Client, subscription: Subscription) -> None:
        log, given = self._log(subscription), subscription.last_message_id
        newest = log[-1].id if log else ZERO_ID
        cursor = self.cursors.get((subscription.client.user, subscription.destination), ZERO_ID)
        held = [entry.id for entry in log if given is not None and entry.id <= given]
        subscription.subscribed(LogState(0, newest, cursor, ZERO_ID, 1, held=held[-1] if held else None))
        client.call_ended()

    def unsubscribe(self, client: Client, subscription: Subscription) -> None:
        self.subscriptions.remove(subscription)
        self._later(client.call_ended)

    def read_page(self, subscription: Subscription, asked: ReadPage) -> None:
        entries = [entry for entry in self._log(subscription) if entry.id > asked.after][: asked.limit]
        ends = list(accumulate(len(entry.body) for entry in entries))
        page = entries[: max(1, bisect_right(ends, asked.max_bytes))]
        self._later(
            partial(subscription.client.page_ended, subscription, asked, LogPage(page, cut=len(page) < len(entries)))
        )

    def reject(self, client: Client, rejected: Sequence[Rejected], receipt: str | None) -> None:
        self._later(partial(self._reject, client, rejected, receipt))

    def _reject(self, client: Client, rejected: Sequence[Rejected], receipt: str | None) -> None:
        for number, (subscription, message_ids) in enumerate(rejected, start=1):
            self.rejected += message_ids
            self.outcomes.settled(subscription, message_ids, MessageOutcome.REJECTED)
            client.settled(subscription, message_ids, receipt if number == len(rejected) else None)
        client.call_ended()

    def cursor_moved(self, subscription: Subscription) -> None:
        move = subscription.cursor_to_flush()
        if move is not None:
            self.moved.append(move)

    def _later(self, call: Callable[[], None]) -> None:
        if self.hold_calls:
            self.held_calls.append(call)
        else:
            asyncio.get_running_loop().call_soon(call)

    def push(self, user: str, body: bytes, destination: Destination = QUEUE, **fields: Any) -> StreamId:
        """Append a message and give its copy to every subscription; `fields` are those of LogEntry."""
        log = self.logs.setdefault((user, destination), [])
        entry = LogEntry(StreamId(1_000, len(log) + 1), body, **fields)
        log.append(entry)
        for subscription in list(self.subscriptions):
            if (subscription.client.user, subscription.destination) == (user, destination):
                self._send_copy(subscription, entry)
        return entry.id

    def _send_copy(self, subscription: Subscription, entry: LogEntry) -> None:
        subscription.copy_arrived(entry)

    def _log(self, subscription: Subscription) -> list[LogEntry]:
        return self.logs.get((subscription.client.user, subscription.destination), [])


@dataclass
class RunningServer:
    """A WebSocketServer on 127.0.0.1 over FakeServices."""

    server: WebSocketServer
    services: FakeServices
    port: int
    clock: ManualClock
    """The server's, if it was asked for."""

    async def pass_time(self, seconds: float) -> None:
        """Let this time pass on the manual clock, and let the server do what becomes due meanwhile."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + WHEEL_TICK_S)
            self.server.check_deadlines()
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # what became due last is written at the end of its tick

    async def pass_time_until(self, condition: Callable[[], object], *, within_s: float) -> None:
        """Let time pass on the manual clock until the condition holds, which it must within this time."""
        end = self.clock.now + within_s
        while not condition():
            assert self.clock.now < end, f"not within {within_s} s of the server's clock"
            await self.pass_time(WHEEL_TICK_S)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def http(self, request: bytes, *, eof: bool = False) -> bytes:
        """Send raw bytes and return everything that comes until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            if eof:
                writer.write_eof()
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def running_server(
    limits: Limits | None = None,
    *,
    max_connections: int = 100,
    handshakes_per_s: float = 0,
    allowed_origins: tuple[str, ...] = (),
    authenticator: Authenticator | None = None,
    manual_clock: bool = False,
) -> AsyncIterator[RunningServer]:
    """Serve until the end of the block; with a manual clock time stands still until `pass_time`."""
    clock = ManualClock()
    services = FakeServices(limits or Limits(), authenticator, clock if manual_clock else None)

    def open_client(connection: WebSocketConnection, handshake: HandshakeResult) -> Client:
        return Client(services, connection, handshake.subprotocol, handshake.token)

    server = WebSocketServer(
        limits=services.limits,
        admission=Admission(
            max_connections=max_connections,
            handshakes_per_s=handshakes_per_s,
            now=services.clock(),
            random=random.Random(1).random,
        ),
        allowed_origins=allowed_origins,
        metrics=services.metrics,
        clock=services.clock,
        handler_factory=open_client,
    )
    port = await server.start("127.0.0.1", 0)
    try:
        yield RunningServer(server, services, port, clock)
    finally:
        await server.close()
