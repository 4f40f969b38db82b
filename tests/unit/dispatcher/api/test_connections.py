"""What holds before anybody has shown a key, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pushcluster_contract.api_keys import ApiKeys
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_contract.routing import RoutingMode
from pushcluster_dispatcher.api import connections
from pushcluster_dispatcher.api.app import build_server
from pushcluster_dispatcher.api.connections import MAX_HEAD_BYTES, MAX_HEADERS, MAX_LINE_BYTES
from pushcluster_dispatcher.api.replies import Replies
from pushcluster_dispatcher.api.routes import ApiServices
from pushcluster_dispatcher.metrics import Metrics
from tests.support.clock import moved_clock
from tests.unit.dispatcher.api.bench import HOST, KEY, PATH, PlayedBroker, PlayedUsers

GOOD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 2\r\n\r\nhi".encode()


@asynccontextmanager
async def running_server(metrics: Metrics | None = None) -> AsyncIterator[int]:
    services = ApiServices(PlayedBroker(), PlayedUsers(), Replies(lambda: "c"), RoutingMode.SESSION, lambda: "made-up")
    server = build_server(services, ApiKeys.parse(KEY, name="KEY"), metrics or Metrics(), shutdown_timeout_s=1)
    try:
        yield await server.start(HOST, 0)
    finally:
        await server.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with running_server() as running:
        yield running


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces one after another and return everything that comes until the server closes."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def answer(port: int, request: bytes) -> bytes:
    """Return the first line of the answer on a connection that stays open."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.readline()
    finally:
        writer.close()


def is_problem(response: bytes, status: int) -> bool:
    head, _, body = response.partition(b"\r\n\r\n")
    return (
        head.split()[1] == str(status).encode()
        and b"application/problem+json" in head
        and f'"status": {status}'.encode() in body
    )


async def test_a_request_in_one_piece_is_answered(port: int) -> None:
    assert b" 202 " in await answer(port, GOOD)


async def test_a_request_byte_by_byte_is_answered(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    for n in range(len(GOOD)):
        writer.write(GOOD[n : n + 1])
        await writer.drain()
        await asyncio.sleep(0)
    assert b" 202 " in await reader.readline()
    writer.close()


async def test_a_connection_serves_one_request_after_another(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    for _ in range(3):
        writer.write(GOOD)
        assert b" 202 " in await reader.readline()
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")
    writer.close()


def head_of(size: int) -> bytes:
    """Return a request whose head has so many bytes."""
    start = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n"
    filler = b"".join(b"x-%02d: %b\r\n" % (n, b"y" * 1_000) for n in range(16))
    last = size - len(start) - len(filler) - len(b"z: \r\n\r\n")
    return start + filler + b"z: " + b"z" * last + b"\r\n\r\n"


async def test_the_largest_head_is_read_and_one_byte_more_is_not(port: int) -> None:
    assert (await exchange(port, head_of(MAX_HEAD_BYTES))).startswith(b"HTTP/1.1 200 ")
    assert is_problem(await exchange(port, head_of(MAX_HEAD_BYTES + 1)), 431)


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES, b"200"), (MAX_HEAD_BYTES + 1, b"431")])
async def test_the_largest_later_head_is_read_and_one_byte_more_is_not(port: int, size: int, status: bytes) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    async with asyncio.timeout(5):
        writer.write(GOOD)
        assert b" 202 " in await reader.readline()
        await reader.readuntil(b"}")
        writer.write(head_of(size))
        assert (await reader.readline()).split()[1] == status
    writer.close()


async def test_a_later_head_may_reach_the_limit_and_is_refused_one_byte_beyond_it(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    async with asyncio.timeout(5):
        writer.write(GOOD)
        assert b" 202 " in await reader.readline()
        await reader.readuntil(b"}")
        writer.write(head_of(MAX_HEAD_BYTES + 4)[:-4])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.write(b"z")
        assert is_problem(await reader.read(), 431)
    writer.close()


async def test_the_longest_value_of_a_header_is_read_and_one_byte_more_is_not(port: int) -> None:
    def head(size: int) -> bytes:
        return b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nx-any-name: " + b"y" * size + b"\r\n\r\n"

    assert (await exchange(port, head(MAX_LINE_BYTES))).startswith(b"HTTP/1.1 200 ")
    refused = await exchange(port, head(MAX_LINE_BYTES + 1))
    assert is_problem(refused, 431)
    assert b"at most 8190 bytes" in refused
    assert b"yyy" not in refused


async def test_the_longest_target_is_read_and_one_byte_more_is_not(port: int) -> None:
    def head(size: int) -> bytes:
        return b"GET " + b"/openapi.json?".ljust(size, b"y") + b" HTTP/1.1\r\nHost: a\r\n\r\n"

    assert (await exchange(port, head(MAX_LINE_BYTES))).startswith(b"HTTP/1.1 200 ")
    refused = await exchange(port, head(MAX_LINE_BYTES + 1))
    assert is_problem(refused, 431)
    assert b"at most 8190 bytes" in refused
    assert b"yyy" not in refused


async def test_the_rest_of_a_refused_body_is_read_for_a_while_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LINGERING_S", 80.0)
    length = 10 * MAX_BODY_BYTES
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n"
    async with running_server() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        with moved_clock() as clock:
            writer.write(head.encode())
            assert b" 413 " in await reader.readuntil(b"}")
            for _ in range(7):
                await clock.move(10)
                writer.write(b"x")
            await clock.move(0)
            assert not reader.at_eof()
            await clock.move(10)
            writer.write(b"x")
            await clock.move(0)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_one_header_more_than_allowed_is_refused(port: int) -> None:
    def head(count: int) -> bytes:
        return b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * (count - 1) + b"\r\n"

    assert (await exchange(port, head(MAX_HEADERS))).startswith(b"HTTP/1.1 200 ")
    assert is_problem(await exchange(port, head(MAX_HEADERS + 1)), 431)


async def test_a_head_without_an_end_is_given_up(port: int) -> None:
    line = b"x-a: " + b"y" * 1_000 + b"\r\n"
    response = await exchange(port, b"GET / HTTP/1.1\r\n", *[line] * 20)
    assert not response or is_problem(response, 431)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
async def test_input_that_is_not_http_is_answered_with_a_problem(port: int, garbage: bytes) -> None:
    assert is_problem(await exchange(port, garbage), 400)


async def test_empty_lines_before_a_request_are_ignored_but_count_for_nothing(port: int) -> None:
    assert b" 202 " in await answer(port, b"\r\n\r\n" + GOOD)


async def test_a_connection_that_sends_no_whole_head_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_TIMEOUT_S", 0.1)
    async with running_server() as port:
        assert await exchange(port, b"") == b""
        assert await exchange(port, b"GET / HTTP/1.1\r\nHost:") == b""


async def test_a_connection_without_a_key_ends_with_its_first_answer(port: int) -> None:
    for line in ("GET /v1/users/alice/sessions", "GET /openapi.json"):
        request = f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        assert (await exchange(port, request * 2)).count(b"HTTP/1.1 ") == 1


def expecting(expectation: str, *, path: str = PATH, key: str = KEY, version: str = "1.1") -> bytes:
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {path} HTTP/{version}\r\nHost: a\r\n{authorization}Expect: {expectation}\r\nContent-Length: 2\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("expectation", ["foo", "100-continue"])
@pytest.mark.parametrize("path", [PATH, "/v1/elsewhere"])
async def test_a_client_without_a_key_is_not_asked_for_its_body(port: int, expectation: str, path: str) -> None:
    response = await exchange(port, expecting(expectation, path=path, key="") + b"hi", GOOD)
    assert is_problem(response, 401)
    assert response.count(b"HTTP/1.1 ") == 1


async def test_a_body_is_asked_for_once_the_key_is_known(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(expecting("100-Continue"))
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert b" 202 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize("expectation", ["foo", "100-continue"])
async def test_the_header_expect_is_ignored_in_http_1_0(port: int, expectation: str) -> None:
    assert (await answer(port, expecting(expectation, version="1.0") + b"hi")).startswith(b"HTTP/1.0 202 ")


async def test_another_value_of_the_header_expect_is_refused_and_counted() -> None:
    metrics = Metrics()
    async with running_server(metrics) as port:
        response = await exchange(port, expecting("foo") + b"hi", GOOD)
    assert is_problem(response, 417)
    assert response.count(b"HTTP/1.1 ") == 1
    assert metrics.api_requests.labels("417")._value.get() == 1


async def test_the_bound_on_heads_holds_for_every_request_of_a_connection(port: int) -> None:
    line = b"x-a: " + b"y" * 1_000 + b"\r\n"
    large = b"GET /v1/users/alice/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n%b\r\n"
    response = await exchange(port, GOOD, large % (KEY.encode(), line * 20))
    first, _, second = response.partition(b"}")
    assert b" 202 " in first
    assert is_problem(second, 431)


async def test_a_later_head_without_an_end_is_given_up(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(GOOD)
    assert b" 202 " in await reader.readline()
    await reader.readuntil(b"}")
    writer.write(b"GET / HTTP/1.1\r\n")
    for _ in range(MAX_HEAD_BYTES // 1_000 + 1):
        writer.write(b"x-a: " + b"y" * 1_000 + b"\r\n")
        await writer.drain()
    async with asyncio.timeout(5):
        assert is_problem(await reader.read(), 431)
    writer.close()


async def test_a_body_does_not_count_towards_the_limit_of_a_head(port: int) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 40000\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(HOST, port)
    async with asyncio.timeout(5):
        for _ in range(2):
            writer.write(head)
            for _ in range(40):
                writer.write(b"x" * 1_000)
                await writer.drain()
                await asyncio.sleep(0)
            assert b" 202 " in await reader.readline()
            await reader.readuntil(b"}")
    writer.close()
