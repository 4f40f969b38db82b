"""The API over a played RabbitMQ and Redis: for what real ones cannot be made to do on purpose."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web
from pika.spec import BasicProperties

from pushcluster_contract.api_keys import ApiKeys
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation, StreamId
from pushcluster_contract.outcomes import OutcomeReport
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_dispatcher.api.app import build_server
from pushcluster_dispatcher.api.connections import ApiServer
from pushcluster_dispatcher.api.explain import LogFacts
from pushcluster_dispatcher.api.replies import Replies
from pushcluster_dispatcher.api.routes import ApiServices
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_runtime.amqp import Delivery

KEY: Final = "sesame-open"
PUBLISH_KEY: Final = "publish-only"
READ_KEY: Final = "readers-key"
KEYS: Final = f"{KEY}\n{PUBLISH_KEY} publish\n{READ_KEY} read\n"
HOST: Final = "127.0.0.1"
DEMO: Final = Destination("queue", "demo")
PATH: Final = "/v1/users/alice/messages?destination=/queue/demo"
HERE: Final = Incarnation("pod", "0" * 16)
SID: Final = "a" * 26
SID_2: Final = "b" * 26


def bearer(key: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass
class PlayedBroker:
    """Takes everything, and reports outcomes at once when it has been told which."""

    published: list[tuple[str, bytes, BasicProperties]] = field(default_factory=list)
    disconnected: list[tuple[str, str]] = field(default_factory=list)
    reachable: bool = True
    error: Exception | None = None
    errors_by_user: dict[str, Exception] = field(default_factory=dict)
    reports: Iterable[OutcomeReport] = ()
    replies: Replies | None = None
    held: asyncio.Event | None = None
    """When set, publishes wait for it."""

    async def publish(self, user: str, body: bytes, properties: BasicProperties) -> None:
        error = self.error or self.errors_by_user.get(user)
        if error is not None:
            raise error
        self.published.append((user, body, properties))
        if self.held is not None:
            await self.held.wait()
        if properties.reply_to:
            for report in self.reports:
                self.report(properties, report)

    def report(self, properties: BasicProperties, report: OutcomeReport) -> None:
        assert self.replies is not None
        answer = BasicProperties(correlation_id=properties.correlation_id)
        self.replies.receive(Delivery(1, "", properties.reply_to or "", False, answer, report.encode(), "c"))

    async def disconnect(self, user: str, sid: str, incarnation: Incarnation) -> bool:  # noqa: ARG002
        if self.error is not None:
            raise self.error
        self.disconnected.append((user, sid))
        return self.reachable


@dataclass
class PlayedUsers:
    """Knows alice."""

    known: dict[str, dict[str, SessionEntry]] = field(
        default_factory=lambda: {"alice": {SID: SessionEntry(HERE, (DEMO,)), SID_2: SessionEntry(HERE)}}
    )
    log: LogFacts = field(default_factory=lambda: LogFacts(3, StreamId(1_000, 7), StreamId(900, 5)))
    error: Exception | None = None
    forgotten: list[str] = field(default_factory=list)

    async def sessions(self, user: str) -> dict[str, SessionEntry]:
        self._check()
        return self.known.get(user, {})

    async def log_facts(self, user: str, destination: Destination) -> LogFacts:  # noqa: ARG002
        self._check()
        return self.log

    async def leases(self, incarnations: Iterable[Incarnation]) -> dict[Incarnation, bool]:
        self._check()
        return dict.fromkeys(incarnations, True)

    async def forget(self, user: str) -> int:
        self._check()
        self.forgotten.append(user)
        return 2

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class Bench:
    client: aiohttp.ClientSession
    server: ApiServer
    port: int
    broker: PlayedBroker
    users: PlayedUsers
    replies: Replies
    metrics: Metrics

    @property
    def app(self) -> web.Application:
        return self.server.app

    async def post(self, path: str = PATH, data: Any = b"x", **headers: str) -> aiohttp.ClientResponse:
        """Post with the key that may do everything."""
        return await self.client.post(path, data=data, headers={**bearer(), **headers})

    async def batch(self, *messages: object, query: str = "") -> aiohttp.ClientResponse:
        document = json.dumps({"messages": messages})
        return await self.post(f"/v1/messages:batch{query}", document, **{"Content-Type": "application/json"})

    async def get(self, path: str) -> aiohttp.ClientResponse:
        return await self.client.get(path, headers=bearer())

    async def delete(self, path: str) -> aiohttp.ClientResponse:
        return await self.client.delete(path, headers=bearer())

    def down(self) -> None:
        """Neither RabbitMQ nor Redis answers."""
        self.broker.error = Unavailable("RabbitMQ cannot be reached")
        self.users.error = Unavailable("Redis: refused")


@asynccontextmanager
async def running_bench() -> AsyncIterator[Bench]:
    numbers = itertools.count(1)
    replies = Replies(lambda: f"c{next(numbers)}")
    replies.opened("replies.test")
    broker, users, metrics = PlayedBroker(replies=replies), PlayedUsers(), Metrics()
    services = ApiServices(broker, users, replies, RoutingMode.SESSION, lambda: "made-up")
    server = build_server(services, ApiKeys.parse(KEYS, name="KEYS"), metrics, shutdown_timeout_s=1)
    try:
        port = await server.start(HOST, 0)
        async with aiohttp.ClientSession(f"http://{HOST}:{port}") as client:
            yield Bench(client, server, port, broker, users, replies, metrics)
    finally:
        await server.close()


async def problem(response: aiohttp.ClientResponse) -> str:
    """Check that a response is a problem document (RFC 9457) and return its detail."""
    assert response.content_type == "application/problem+json"
    document = await response.json(content_type=None)
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["status"] == response.status
    return str(document["detail"])


async def raw_request(port: int, data: bytes) -> bytes:
    """Send what no HTTP library would, and return everything that comes until the server closes."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
