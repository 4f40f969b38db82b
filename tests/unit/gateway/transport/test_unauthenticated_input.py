"""What a client may send before its token is accepted: little each, and little all together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import pytest
from websockets.frames import Frame, Opcode

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.eviction import Stage, UnauthenticatedInput
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.handshakes import REQUEST, build_request
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

LIMITS: Final = Limits()
MOST: Final = LIMITS.max_unauthenticated_bytes
BEGIN: Final = b"CONNECT\naccept-version:1.2\ncontent-length:65536\n\n"
UNFINISHED: Final = b"GET /ws HTTP/1.1\r\nx: " + b"x" * 8_000 + b"\r\ny: " + b"y" * 4_000
FEW: Final = Limits(max_all_unauthenticated_bytes=50_000)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS, manual_clock=True) as running:
        yield running


async def open_websocket(server: RunningServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(REQUEST)
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def in_messages(size: int, message_bytes: int) -> bytes:
    """Return a CONNECT that does not end, as WebSocket messages of together this size on the wire."""
    data = BEGIN + b"x" * size
    sent = b""
    while len(sent) < size:
        sent += Frame(Opcode.TEXT, data[:message_bytes]).serialize(mask=True)
        data = data[message_bytes:]
    return sent[:size]


@pytest.mark.parametrize("message_bytes", [200, 8_192, 65_000])
async def test_so_much_may_come_before_connected_and_one_byte_more_is_refused(
    server: RunningServer, message_bytes: int
) -> None:
    reader, writer = await open_websocket(server)
    writer.write(in_messages(MOST + 1, message_bytes)[:-1])
    (connection,) = server.server.connections
    await eventually(lambda: server.server._input.total_bytes == MOST, within_s=5)
    assert connection.cause is None
    writer.write(b"x")
    answer = await reader.readuntil(f"at most {MOST} bytes".encode())
    assert b"ERROR\nmessage:frame too large" in answer
    assert (1009).to_bytes(2) in await reader.readuntil(b"frame too large")
    assert server.server._input.total_bytes == MOST + 1
    writer.close()
    await eventually(lambda: not server.server.sockets, within_s=5)
    assert server.server._input.total_bytes == 0


async def test_what_comes_after_the_refusal_is_dropped(server: RunningServer) -> None:
    _, writer = await open_websocket(server)
    (connection,) = server.server.connections
    writer.write(in_messages(60_000, 65_000))
    await eventually(lambda: connection.cause, within_s=5)
    for _ in range(100):
        writer.write(b"x" * 60_000)
        await writer.drain()
    assert connection._protocol is None or len(connection._protocol.reader.buffer) <= MOST
    writer.close()


async def test_the_largest_connect_fits_in(server: RunningServer) -> None:
    head = f"CONNECT\naccept-version:1.2\nhost:x\nAuthorization:Bearer {token('alice')}\nx:"
    padding = "x" * (LIMITS.max_head_bytes - len(head))
    async with AsyncExitStack() as stack:
        client = await StompClient.open(server.url)
        stack.push_async_callback(client.close)
        await client.send_raw(f"{head}{padding}\n\n\0".encode())
        assert (await client.next_answer()).command == "CONNECTED"
        assert server.server._input.total_bytes == 0


async def test_the_largest_connect_fits_in_also_after_a_handshake_with_a_long_token(server: RunningServer) -> None:
    head = f"CONNECT\naccept-version:1.2\nhost:x\nAuthorization:Bearer {token('alice')}\nx:"
    padding = "x" * (LIMITS.max_head_bytes - len(head))
    async with AsyncExitStack() as stack:
        client = await StompClient.open(server.url, headers={"Authorization": "Bearer " + "t" * 8_000})
        stack.push_async_callback(client.close)
        assert server.server._input.total_bytes == 8_000
        await client.send_raw(f"{head}{padding}\n\n\0".encode())
        assert (await client.next_answer()).command == "CONNECTED"


async def test_a_request_counts_for_as_long_as_it_stays_in_memory(server: RunningServer) -> None:
    """The parser of a frame that came with the request, and is not complete, holds the request."""
    padding = "x" * 6_000
    request = build_request(x_first=padding, x_second=padding)
    begun = Frame(Opcode.TEXT, b"CONNECT").serialize(mask=True)[:6]
    for early, held in ((begun, len(request + begun)), (b"", 0)):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request + early)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert server.server._input.total_bytes >= held
        assert held or not server.server._input.total_bytes
        writer.close()
        await eventually(lambda: not server.server.sockets, within_s=5)
        assert server.server._input.total_bytes == 0


async def test_a_connected_client_may_send_as_much_as_it_likes(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        for _ in range(3):
            await client.send_raw(b"\n" * LIMITS.max_frame_bytes)
        await client.has_been_read()
        assert not client.closed


async def test_the_first_of_too_many_bytes_gives_way_and_an_honest_client_gets_in() -> None:
    async with running_server(FEW, manual_clock=True) as server:
        greedy = [await open_websocket(server) for _ in range(2)]
        for _, writer in greedy:
            writer.write(in_messages(MOST, 65_000))
        await eventually(lambda: server.server._input.total_bytes == 2 * MOST, within_s=5)
        _, late = await asyncio.open_connection("127.0.0.1", server.port)
        late.write(UNFINISHED)
        assert b"gave" not in await greedy[0][0].readuntil(b"CONNECT took too long")
        await eventually(lambda: server.services.metrics.closes == {"gave_way": 1}, within_s=5)
        assert server.server._input.total_bytes <= 50_000
        async with connected(server.url, token=token("alice")) as alice:
            assert alice.user_name == "alice"
        for writer in (late, *(writer for _, writer in greedy)):
            writer.close()
        await eventually(lambda: not server.server._input.total_bytes, within_s=5)


async def test_unfinished_requests_count_too() -> None:
    async with running_server(FEW, manual_clock=True) as server:
        writers = []
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(UNFINISHED)
            writers.append(writer)
        await eventually(lambda: server.services.metrics.handshakes_cut["crowded"] == 1, within_s=5)
        await eventually(lambda: server.server.sockets == 4, within_s=5)
        assert server.server._input.total_bytes == 4 * len(UNFINISHED)
        for writer in writers:
            writer.close()


async def test_what_comes_with_the_request_counts(server: RunningServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(REQUEST + in_messages(10_000, 4_000))
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    assert 9_000 < server.server._input.total_bytes - len(REQUEST) <= 10_000
    writer.close()


def test_sockets_are_counted_until_they_are_removed() -> None:
    class Socket:
        stage = Stage.NONE

    counted: UnauthenticatedInput[Socket] = UnauthenticatedInput()
    first, second = Socket(), Socket()
    assert counted.oldest() is None
    assert [counted.add(first, 1), counted.add(second, 10), counted.add(first, 2)] == [1, 10, 3]
    assert (counted.total_bytes, counted.oldest()) == (13, first)
    counted.hold(first, 100)
    assert (counted.add(first, 0), counted.total_bytes) == (3, 113), "it was not sent over the WebSocket"
    for _ in range(2):
        counted.remove(first)
        assert (counted.total_bytes, counted.oldest()) == (10, second)
