import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_dispatcher import api as api_module
from pushcluster_dispatcher.api import Api
from pushcluster_dispatcher.metrics import Metrics

KEY = "sesame"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
PATH = "/v1/users/alice/messages?destination=/queue/demo"
Client = TestClient[Any, Any]


@dataclass
class PlayedIngress:
    published: list[tuple[str, bytes, BasicProperties]] = field(default_factory=list)
    error: Exception | None = None

    async def publish(self, user: str, body: bytes, properties: BasicProperties) -> None:
        if self.error is not None:
            raise self.error
        self.published.append((user, body, properties))


@pytest.fixture
def ingress() -> PlayedIngress:
    return PlayedIngress()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(ingress: PlayedIngress, metrics: Metrics) -> AsyncIterator[Client]:
    app = Api(ingress, KEY, metrics=metrics, new_message_id=lambda: "made-up").build_app()
    async with TestClient(TestServer(app)) as client:
        yield client


async def problem(response: aiohttp.ClientResponse) -> str:
    """Check that a response is a problem document (RFC 9457) and return its detail."""
    assert response.content_type == "application/problem+json"
    document = await response.json(content_type=None)
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["status"] == response.status
    return str(document["detail"])


async def test_a_message_is_published_as_it_came(client: Client, ingress: PlayedIngress) -> None:
    response = await client.post(
        "/v1/users/b%C3%B8b%2F1/messages?destination=/topic/news&expiration=1500",
        data=b"\x00body",
        headers={
            **AUTHORIZED,
            "Content-Type": "application/json",
            "Idempotency-Key": "order-7",
            "X-Kind": "a",
            "traceparent": "00-1",
            "Other": "no",
        },
    )
    assert response.status == 202
    assert await response.json() == {
        "status": "accepted",
        "user": "bøb/1",
        "destination": "/topic/news",
        "messageId": "order-7",
    }
    ((user, body, properties),) = ingress.published
    assert (user, body) == ("bøb/1", b"\x00body")
    assert (properties.content_type, properties.message_id) == ("application/json", "order-7")
    assert (properties.expiration, properties.delivery_mode) == ("1500", 2)
    assert properties.headers == {"destination": "/topic/news", "x-kind": "a", "traceparent": "00-1"}


async def test_a_message_without_a_key_of_its_own_gets_one(client: Client, ingress: PlayedIngress) -> None:
    response = await client.post(PATH, data=b"x", headers=AUTHORIZED)
    assert (await response.json())["messageId"] == "made-up"
    assert ingress.published[0][2].message_id == "made-up"


async def test_what_proxies_add_does_not_reach_the_client(client: Client, ingress: PlayedIngress) -> None:
    await client.post(PATH, data=b"x", headers={**AUTHORIZED, "X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1"})
    assert ingress.published[0][2].headers == {"destination": "/queue/demo"}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Bearer sesame2", "Basic sesame"])
async def test_without_the_key_nothing_is_told(
    client: Client, ingress: PlayedIngress, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in (PATH, "/v1/elsewhere"):
        response = await client.post(path, data=b"x", headers=headers)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert KEY not in await problem(response)
    assert ingress.published == []


@pytest.mark.parametrize(
    ("path", "headers", "detail"),
    [
        ("/v1/users/alice/messages", {}, "?destination="),
        ("/v1/users/alice/messages?destination=/queue/a.b", {}, "/queue/<name>"),
        ("/v1/users/alice/messages?destination=/user/queue/demo", {}, "/queue/<name>"),
        (f"/v1/users/{'x' * 256}/messages?destination=/queue/demo", {}, "256 bytes"),
        ("/v1/users/a%0Ab/messages?destination=/queue/demo", {}, "control"),
        (f"{PATH}&expiration=soon", {}, "milliseconds"),
        (PATH, {"Idempotency-Key": "k" * 256}, "message id"),
        (PATH, {"X-Big": "x" * 5_000}, "forwarded headers"),
        (PATH, {"Content-Type": "t" * 256}, "Content-Type"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    client: Client, ingress: PlayedIngress, path: str, headers: dict[str, str], detail: str
) -> None:
    response = await client.post(path, data=b"x", headers={**AUTHORIZED, **headers})
    assert response.status == 400
    assert detail in await problem(response)
    assert ingress.published == []


async def test_a_user_that_is_not_utf8_is_refused(client: Client, ingress: PlayedIngress) -> None:
    line = b"POST /v1/users/%FF/messages?destination=/queue/demo"
    assert await raw_request(client, line, b"x-a: b") == 400
    assert ingress.published == []


async def test_a_percent_sign_is_part_of_a_user_when_it_is_encoded(client: Client, ingress: PlayedIngress) -> None:
    line = b"POST /v1/users/%25FF/messages?destination=/queue/demo"
    assert await raw_request(client, line, b"x-a: b") == 202
    assert ingress.published[0][0] == "%FF"


async def test_a_header_that_is_not_utf8_is_refused(client: Client, ingress: PlayedIngress) -> None:
    line = b"POST " + PATH.encode()
    assert await raw_request(client, line, b"x-a: \xff") == 400
    assert ingress.published == []


async def raw_request(client: Client, line: bytes, header: bytes) -> int:
    """Send what no HTTP library would, and return the status."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        authorization = b"authorization: Bearer " + KEY.encode()
        head = b"\r\n".join([line + b" HTTP/1.1", b"host: a", authorization, header, b"connection: close"])
        writer.write(head + b"\r\ncontent-length: 0\r\n\r\n")
        return int((await reader.read()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_body_of_the_largest_size_is_taken(client: Client, ingress: PlayedIngress) -> None:
    response = await client.post(PATH, data=b"x" * MAX_BODY_BYTES, headers=AUTHORIZED)
    assert response.status == 202
    assert len(ingress.published[0][1]) == MAX_BODY_BYTES


async def test_a_larger_body_is_refused_by_its_announced_length(client: Client) -> None:
    assert await first_line(client, f"content-length: {MAX_BODY_BYTES + 1}") == 413


async def first_line(client: Client, length: str) -> int:
    """Announce a body, send two bytes of it, and return the status that comes without the rest."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n{length}\r\n\r\nhi"
        writer.write(head.encode())
        async with asyncio.timeout(2):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def test_an_endless_body_is_refused_long_before_its_end(client: Client, ingress: PlayedIngress) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * MAX_BODY_BYTES:
            sent += 8_192
            yield b"x" * 8_192
            await asyncio.sleep(0)

    try:
        response = await client.post(PATH, data=endless(), headers=AUTHORIZED)
        assert response.status == 413
    except aiohttp.ClientConnectionError:
        pass  # the server had closed before the client had sent enough to look
    assert sent < 64 * MAX_BODY_BYTES
    assert ingress.published == []


async def test_a_body_that_does_not_come_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "BODY_TIMEOUT_S", 0.05)
    assert await first_line(client, "content-length: 5") == 408


async def test_an_unknown_path_is_a_problem_too(client: Client) -> None:
    response = await client.get("/v1/nothing", headers=AUTHORIZED)
    assert response.status == 404
    assert "/v1/nothing" in await problem(response)


async def test_a_wrong_method_is_answered_with_the_right_ones(client: Client) -> None:
    response = await client.get(PATH, headers=AUTHORIZED)
    assert response.status == 405
    assert response.headers["Allow"] == "POST"
    await problem(response)


async def test_an_ingress_that_takes_nothing_asks_to_try_again(client: Client, ingress: PlayedIngress) -> None:
    ingress.error = Unavailable("the ingress queue is full")
    response = await client.post(PATH, data=b"x", headers=AUTHORIZED)
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert await problem(response) == "the ingress queue is full"


async def test_a_fault_of_our_own_shows_no_secret(client: Client, ingress: PlayedIngress, metrics: Metrics) -> None:
    ingress.error = RuntimeError("amqp://user:password@host")
    response = await client.post(PATH, data=b"x", headers=AUTHORIZED)
    assert response.status == 500
    assert "password" not in await problem(response)
    assert metrics.registry.get_sample_value("pushcluster_dispatcher_api_requests_total", {"status": "500"}) == 1
