"""POST /v1/users/{user}/messages, without outcomes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_dispatcher.api import requests
from tests.unit.dispatcher.api.bench import HOST, KEY, PATH, PUBLISH_KEY, Bench, bearer, problem, raw_request


async def test_a_message_is_published_as_it_came(bench: Bench) -> None:
    response = await bench.client.post(
        "/v1/users/b%C3%B8b%2F1/messages?destination=/topic/news&expiration=1500",
        data=b"\x00body",
        headers={
            **bearer(),
            "Content-Type": "application/json",
            "Idempotency-Key": "order-7",
            "X-Push-Kind": "a",
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
    ((user, body, properties),) = bench.broker.published
    assert (user, body) == ("bøb/1", b"\x00body")
    assert (properties.content_type, properties.message_id) == ("application/json", "order-7")
    assert (properties.expiration, properties.delivery_mode) == ("1500", 2)
    assert properties.headers == {"destination": "/topic/news", "x-kind": "a", "traceparent": "00-1"}
    assert (properties.reply_to, properties.correlation_id) == (None, None)


async def test_a_message_without_a_key_of_its_own_gets_one(bench: Bench) -> None:
    response = await bench.post()
    assert (await response.json())["messageId"] == "made-up"
    assert bench.broker.published[0][2].message_id == "made-up"


async def test_what_proxies_add_does_not_reach_the_client(bench: Bench) -> None:
    added = ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "X-Azure-SocketIP", "X-Amzn-Trace-Id", "X-Api-Key", "X-New")
    await bench.post(**dict.fromkeys(added, "10.0.0.1"))
    assert bench.broker.published[0][2].headers == {"destination": "/queue/demo"}


@pytest.mark.parametrize("user", ["%7Bx%7D", "a:b", "..", "a%20b%3F%23"])
async def test_a_user_id_may_have_any_character(bench: Bench, user: str) -> None:
    line = f"POST /v1/users/{user}/messages?destination=/queue/demo".encode()
    assert await raw_status(bench, line) == 202


@pytest.mark.parametrize(
    ("path", "headers", "detail"),
    [
        ("/v1/users/alice/messages", {}, "?destination="),
        ("/v1/users/alice/messages?destination=/queue/a.b", {}, "/queue/<name>"),
        ("/v1/users/alice/messages?destination=/user/queue/demo", {}, "/queue/<name>"),
        (f"/v1/users/{'x' * 256}/messages?destination=/queue/demo", {}, "256 bytes"),
        ("/v1/users/a%0Ab/messages?destination=/queue/demo", {}, "control"),
        (f"{PATH}&expiration=soon", {}, "milliseconds"),
        (f"{PATH}&wait=0", {}, "wait"),
        (f"{PATH}&wait=30001", {}, "30000"),
        (f"{PATH}&wait=1s", {}, "wait"),
        (f"{PATH}&wait={'9' * 5_000}", {}, "wait"),
        (f"{PATH}&wiat=50", {}, "no parameter 'wiat'; it may have destination, expiration, wait"),
        (f"{PATH}&destination=/queue/other", {}, "'destination' more than once"),
        (f"{PATH}&expiration=99999999999999999", {}, "at most 9999999999999999"),
        (PATH, {"Idempotency-Key": ""}, "message id"),
        (PATH, {"Idempotency-Key": "k" * 256}, "message id"),
        (PATH, {"X-Push-Big": "x" * 5_000}, "forwarded headers"),
        (PATH, {"Content-Type": "t" * 256}, "content type"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    bench: Bench, path: str, headers: dict[str, str], detail: str
) -> None:
    response = await bench.post(path, **headers)
    assert response.status == 400
    assert detail in await problem(response)
    assert bench.broker.published == []


async def test_a_user_that_is_not_utf8_is_refused(bench: Bench) -> None:
    assert await raw_status(bench, b"POST /v1/users/%FF/messages?destination=/queue/demo") == 400
    assert bench.broker.published == []


@pytest.mark.parametrize(
    "target",
    [
        "/v1/users/%zz/messages?destination=/queue/demo",
        "/v1/users/a%2/messages?destination=/queue/demo",
        "/v1/users/a%/messages?destination=/queue/demo",
        "/v1/users/alice/messages?destination=/queue/demo&expiration=%g0",
        "/v1/users/alice/messages?destination=/queue/demo%",
    ],
)
async def test_a_percent_sign_without_two_hex_digits_is_refused(bench: Bench, target: str) -> None:
    assert await raw_status(bench, f"POST {target}".encode()) == 400
    assert bench.broker.published == []


@pytest.mark.parametrize("path", ["/v1/users/%zz/sessions", "/v1/users/alice/route?destination=%zz"])
async def test_no_path_may_have_such_a_percent_sign(bench: Bench, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
    answer = await raw_request(bench.port, request.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"'%zz': a % must be followed by two hex digits" in answer


async def test_a_percent_sign_is_part_of_a_user_when_it_is_encoded(bench: Bench) -> None:
    assert await raw_status(bench, b"POST /v1/users/%25FF/messages?destination=/queue/demo") == 202
    assert bench.broker.published[0][0] == "%FF"


@pytest.mark.parametrize("name", [b"x-push-a", b"traceparent"])
@pytest.mark.parametrize("value", [b"\xff", b"a\tb", b"a\xc2\x85b"])
async def test_a_forwarded_header_that_is_not_printable_is_refused(bench: Bench, name: bytes, value: bytes) -> None:
    assert await raw_status(bench, b"POST " + PATH.encode(), name + b": " + value) == 400
    assert bench.broker.published == []


async def test_two_idempotency_keys_are_refused_since_nobody_knows_which_one_counts(bench: Bench) -> None:
    assert await raw_status(bench, b"POST " + PATH.encode(), b"idempotency-key: a\r\nidempotency-key: b") == 400
    assert bench.broker.published == []


async def test_a_header_that_goes_no_further_may_be_anything(bench: Bench) -> None:
    assert await raw_status(bench, b"POST " + PATH.encode(), b"user-agent: \xff") == 202


async def raw_status(bench: Bench, line: bytes, header: bytes = b"x-a: b") -> int:
    authorization = b"authorization: Bearer " + KEY.encode()
    head = b"\r\n".join([line + b" HTTP/1.1", b"host: a", authorization, header, b"connection: close"])
    return int((await raw_request(bench.port, head + b"\r\ncontent-length: 0\r\n\r\n")).split()[1])


async def test_a_body_of_the_largest_size_is_taken(bench: Bench) -> None:
    assert (await bench.post(data=b"x" * MAX_BODY_BYTES)).status == 202
    assert len(bench.broker.published[0][1]) == MAX_BODY_BYTES


async def test_a_larger_body_is_refused_by_its_announced_length(bench: Bench) -> None:
    assert await first_line(bench, f"content-length: {MAX_BODY_BYTES + 1}") == 413


async def first_line(bench: Bench, length: str) -> int:
    """Announce a body, send two bytes of it, and return the status that comes without the rest."""
    reader, writer = await asyncio.open_connection(HOST, bench.port)
    try:
        head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n{length}\r\n\r\nhi"
        writer.write(head.encode())
        async with asyncio.timeout(2):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def test_an_endless_body_is_refused_long_before_its_end(bench: Bench) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * MAX_BODY_BYTES:
            sent += 8_192
            yield b"x" * 8_192
            await asyncio.sleep(0)

    with suppress(aiohttp.ClientConnectionError):  # when the server had closed before the client looked
        assert (await bench.post(data=endless())).status == 413
    assert sent < 64 * MAX_BODY_BYTES
    assert bench.broker.published == []


async def test_a_body_that_does_not_come_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_TIMEOUT_S", 0.05)
    assert await first_line(bench, "content-length: 5") == 408


async def test_a_compressed_body_is_refused_because_it_would_reach_the_client_as_it_is(bench: Bench) -> None:
    response = await bench.post(data=b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert response.status == 415
    assert "compressed" in await problem(response)


async def test_an_ingress_that_takes_nothing_asks_to_try_again(bench: Bench) -> None:
    bench.broker.error = Unavailable("the ingress queue is full")
    response = await bench.post()
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert await problem(response) == "the ingress queue is full"


async def test_an_internal_error_shows_no_secret_to_the_client(bench: Bench) -> None:
    bench.broker.error = RuntimeError("amqp://user:password@host")
    response = await bench.post()
    assert response.status == 500
    assert "password" not in await problem(response)
    assert bench.metrics.registry.get_sample_value("pushcluster_dispatcher_api_requests_total", {"status": "500"}) == 1


async def test_an_unknown_path_is_a_problem_too(bench: Bench) -> None:
    response = await bench.get("/v1/nothing")
    assert response.status == 404
    assert "/v1/nothing" in await problem(response)


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/users/alice/sessions"])
async def test_head_is_answered_as_get_is_without_the_body(bench: Bench, path: str) -> None:
    got = await bench.get(path)
    response = await bench.client.head(path, headers=bearer() if path.startswith("/v1") else {})
    assert (response.status, await response.read()) == (got.status, b"") == (200, b"")
    assert response.headers["Content-Length"] == got.headers["Content-Length"]


async def test_a_key_bounds_head_as_it_bounds_get(bench: Bench) -> None:
    path = "/v1/users/alice/sessions"
    assert (await bench.client.head(path)).status == 401
    assert (await bench.client.head(path, headers=bearer(PUBLISH_KEY))).status == 403


async def test_a_wrong_method_is_answered_with_the_right_ones(bench: Bench) -> None:
    response = await bench.get(PATH)
    assert response.status == 405
    assert response.headers["Allow"] == "POST"
    await problem(response)
