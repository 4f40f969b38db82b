"""What a request that opens a WebSocket, or does not, is answered; docs/close-codes.md says the same."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.admission import CutCause
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.handshake import MAX_QUOTED_CHARS, HandshakeResult, ServerHandshake
from pushcluster_gateway.transport.interfaces import SocketHandler
from pushcluster_gateway.transport.server import WHEEL_TICK_S
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.handshakes import REQUEST, build_request
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

DOCUMENT: Final = (Path(__file__).parents[4] / "docs" / "close-codes.md").read_text()
LIMITS: Final = Limits()
ORIGIN: Final = "https://app.example.com"
MAX_LINE_BYTES: Final = 8_192
MAX_HEADER_LINES: Final = 128


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS, max_connections=3, allowed_origins=(ORIGIN,), manual_clock=True) as running:
        yield running
        running.server.draining = False
        async with connected(running.url, token=token("alice")) as client:
            assert client.user_name == "alice", "the server is still up"


def of_size(size: int, line: int = 4_000) -> bytes:
    """Return a request of so many bytes, in lines that are not too long."""
    padding: dict[str, str] = {}
    while (missing := size - len(build_request(**padding))) > 0:
        name = f"X_{len(padding):03}"
        padding[name] = "x" * (min(line, missing) - len(name) - len(": \r\n"))
    return build_request(**padding)


REFUSED: Final = {
    "no_http": (b"\x16\x03\x01 no http\r\n\r\n", 400, "unsupported protocol"),
    "no_version": (b"GET /ws\r\n\r\n", 400, "invalid HTTP request line"),
    "http_2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "unsupported protocol"),
    "bare_line_feeds": (REQUEST.replace(b"\r\n", b"\n"), 400, "without CR LF"),
    "no_header": (b"GET /ws HTTP/1.1\r\nno colon\r\n\r\n", 400, "header"),
    "a_path_that_is_not_ascii": ("GET /ws\u00e9 HTTP/1.1\r\n\r\n".encode(), 400, "ascii"),
    "a_body": (build_request(Content_Length="5") + b"hello", 400, "request body"),
    "a_chunked_body": (build_request(Transfer_Encoding="chunked"), 400, "transfer codings"),
    "no_key": (build_request(Sec_WebSocket_Key=None), 400, "Sec-WebSocket-Key"),
    "a_bad_key": (build_request(Sec_WebSocket_Key="short"), 400, "Sec-WebSocket-Key"),
    "another_websocket": (build_request(Sec_WebSocket_Version="8"), 400, "Sec-WebSocket-Version"),
    "another_subprotocol": (build_request(Sec_WebSocket_Protocol="mqtt"), 400, "v12.stomp"),
    "a_foreign_page": (build_request(Origin="https://evil.example.com"), 403, "Origin"),
    "another_path": (build_request("/"), 404, "the only path is /ws"),
    "another_method": (build_request(method="POST"), 405, "POST"),
    "too_slow": (REQUEST[:-2], 408, "within 10 s"),
    "a_long_first_line": (build_request("/ws?access_token=" + "x" * MAX_LINE_BYTES), 414, "first line"),
    "a_plain_request": (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426, "WebSocket client"),
    "a_long_line": (build_request(Cookie="x" * MAX_LINE_BYTES), 431, "too large"),
    "many_lines": (build_request(**{f"X_{n}": "" for n in range(MAX_HEADER_LINES - 4)}), 431, "too large"),
    "too_many_bytes": (of_size(LIMITS.max_handshake_bytes + 1), 431, f"at most {LIMITS.max_handshake_bytes} bytes"),
    "http_1_0": (build_request(version="HTTP/1.0"), 505, "HTTP/1.0"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_request_that_opens_no_websocket_is_told_why_and_counted(server: RunningServer, case: str) -> None:
    request, status, says = REFUSED[case]
    answering = asyncio.create_task(server.http(request))
    if case == "too_slow":
        await eventually(lambda: any(pending._handshake for pending in server.server.pending), within_s=5)
        await server.pass_time(LIMITS.handshake_timeout_s + WHEEL_TICK_S)
    head, _, body = (await answering).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
    assert b"Connection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert says in body.decode()
    assert len(body) < 2 * MAX_QUOTED_CHARS + 200
    assert server.services.metrics.handshakes_refused == {str(status): 1}
    assert not server.services.clients
    await eventually(lambda: not server.server.sockets, within_s=2)


@pytest.mark.parametrize(
    "request_",
    [
        of_size(LIMITS.max_handshake_bytes),
        build_request("/ws?" + "x" * (MAX_LINE_BYTES - len("GET /ws? HTTP/1.1\r\n"))),
        build_request(Cookie="x" * (MAX_LINE_BYTES - len("Cookie: \r\n"))),
        build_request(**{f"X_{n}": "" for n in range(MAX_HEADER_LINES - 5)}),
        build_request(Content_Length="0"),
        build_request(Origin=ORIGIN),
    ],
    ids=["bytes", "first line", "line", "lines", "no body", "origin"],
)
async def test_a_request_of_just_the_limits_is_taken_in_one_piece_and_in_many(
    server: RunningServer, request_: bytes
) -> None:
    for piece_bytes in (len(request_), 100):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for at in range(0, len(request_), piece_bytes):
            writer.write(request_[at : at + piece_bytes])
            await asyncio.sleep(0)
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.close()


async def test_a_socket_that_sends_nothing_in_time_is_cut_without_a_word_and_counted(server: RunningServer) -> None:
    answering = asyncio.create_task(server.http(b""))
    await eventually(lambda: server.server.pending, within_s=5)
    await server.pass_time(LIMITS.handshake_timeout_s + WHEEL_TICK_S)
    assert await answering == b""
    await eventually(lambda: server.services.metrics.handshakes_cut == {"silent": 1}, within_s=2)
    assert not server.services.metrics.handshakes_refused


async def test_half_a_request_is_answered_when_no_more_can_come(server: RunningServer) -> None:
    assert (await server.http(REQUEST[:-2], eof=True)).startswith(b"HTTP/1.1 400")
    assert server.services.metrics.handshakes_refused == {"400": 1}


async def test_whoever_only_looks_whether_the_port_is_open_is_not_counted(server: RunningServer) -> None:
    assert await server.http(b"", eof=True) == b""
    await eventually(lambda: not server.server.sockets, within_s=2)
    metrics = server.services.metrics
    assert metrics.handshakes_refused == metrics.handshakes_cut == Counter()


async def test_a_connection_that_cannot_be_served_gets_500_and_holds_no_slot(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: WebSocketConnection, __: HandshakeResult) -> SocketHandler:
        raise RuntimeError("broken on purpose")

    with monkeypatch.context() as patched:
        patched.setattr(server.server, "_handler_factory", fail)
        for _ in range(4):
            assert (await server.http(REQUEST)).startswith(b"HTTP/1.1 500")
    assert server.services.metrics.handshakes_refused == {"500": 4}


async def test_no_extension_is_agreed_on(server: RunningServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(build_request(Sec_WebSocket_Extensions="permessage-deflate"))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"101" in head
    assert b"Extensions" not in head
    writer.close()


async def test_one_connection_too_many_is_told_when_to_come_back(server: RunningServer) -> None:
    clients = [await StompClient.connect(server.url, token=token("alice")) for _ in range(3)]
    with pytest.raises(InvalidStatus) as caught:
        await StompClient.open(server.url)
    assert caught.value.response.status_code == 503
    assert int(caught.value.response.headers["Retry-After"]) > 0
    assert server.services.metrics.handshakes_refused["503"] == 1
    for client in clients:
        await client.close()
    await eventually(lambda: not server.server.sockets, within_s=2)


async def test_a_draining_server_takes_nobody(server: RunningServer) -> None:
    server.server.draining = True
    assert (await server.http(REQUEST)).startswith(b"HTTP/1.1 503")


@given(st.lists(st.binary(max_size=300) | st.sampled_from([REQUEST, REQUEST[:-2], b"\r\n", b"GET ", b": "])))
def test_no_bytes_make_it_raise(pieces: list[bytes]) -> None:
    handshake = ServerHandshake(Limits(max_handshake_bytes=1_000), None, logging.getLogger(__name__))
    for piece in pieces:
        refusal = handshake.receive(piece)
        if refusal is not None:
            assert refusal.status_code in {400, 414, 431}
            return
    if (refusal := handshake.receive_eof()) is not None:
        assert refusal.status_code == 400


def test_every_status_and_every_cut_is_documented_and_none_that_is_not() -> None:
    table = DOCUMENT.partition("| status |")[2]
    statuses = [int(status) for status in re.findall(r"^\| (\d{3}) \|", table, re.MULTILINE)]
    assert statuses == sorted({*(status for _, status, _ in REFUSED.values()), 500, 503})
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {cut.value for cut in CutCause}
