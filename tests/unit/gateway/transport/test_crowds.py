"""More sockets than places: those that say nothing give way, the oldest first, and connected sessions never do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, cast

import pytest
from websockets.exceptions import InvalidStatus

from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.pending import PendingConnection
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.handshakes import REQUEST
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

MAX_CONNECTIONS: Final = 3
MAX_HANDSHAKES: Final = 10
SOCKETS: Final = MAX_CONNECTIONS + MAX_HANDSHAKES
PATIENT: Final = Limits(handshake_timeout_s=60, connect_timeout_s=60, close_timeout_s=60)
"""Nothing ends by itself while a test looks."""


@pytest.fixture(autouse=True)
def few_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushcluster_gateway.transport.server.MAX_HANDSHAKES", MAX_HANDSHAKES)


@asynccontextmanager
async def crowded(
    min_connect_s: float = 0.0,
    *,
    handshakes_per_s: float = 0,
    max_unauthenticated_bytes: int = 20_480,
    manual_clock: bool = False,
) -> AsyncIterator[RunningServer]:
    """Serve with few places."""
    limits = Limits(
        handshake_timeout_s=PATIENT.handshake_timeout_s,
        connect_timeout_s=PATIENT.connect_timeout_s,
        close_timeout_s=PATIENT.close_timeout_s,
        min_connect_s=min_connect_s,
        max_unauthenticated_bytes=max_unauthenticated_bytes,
    )
    async with running_server(
        limits, max_connections=MAX_CONNECTIONS, handshakes_per_s=handshakes_per_s, manual_clock=manual_clock
    ) as server:
        yield server


class Crowd:
    """Raw sockets, in the order in which the server has them."""

    def __init__(self, server: RunningServer, stack: AsyncExitStack) -> None:
        self.sockets: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._server = server
        self._stack = stack

    async def open(self, count: int, says: bytes = b"") -> None:
        """Open sockets one after the other; each says this at once."""
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
            self._stack.callback(writer.close)
            writer.write(says)
            await eventually(partial(self._side_of, writer), within_s=5)
            self.sockets.append((reader, writer))

    def _side_of(self, writer: asyncio.StreamWriter) -> PendingConnection | WebSocketConnection | None:
        server, peer = self._server.server, writer.get_extra_info("sockname")
        sides: list[PendingConnection | WebSocketConnection] = [*server.pending, *server.connections]
        for side in sides:
            transport = side._transport
            if transport is not None and transport.get_extra_info("peername") == peer:
                return side
        return None

    def connection(self, number: int) -> WebSocketConnection:
        """Return the server's side of a WebSocket."""
        side = self._side_of(self.sockets[number][1])
        assert isinstance(side, WebSocketConnection)
        return side

    async def open_websockets(self, count: int) -> None:
        """Open WebSockets that stay silent."""
        for _ in range(count):
            await self.open(1, REQUEST)
            assert b" 101 " in await self.sockets[-1][0].readuntil(b"\r\n\r\n")

    @property
    def given_up(self) -> list[int]:
        """The numbers of those that gave way."""
        return [n for n, (_, writer) in enumerate(self.sockets) if not self._side_of(writer)]


@asynccontextmanager
async def crowd(server: RunningServer) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        yield Crowd(server, stack)


async def test_one_socket_too_many_evicts_the_oldest_with_an_incomplete_request() -> None:
    async with crowded() as server, crowd(server) as sockets:
        await sockets.open(SOCKETS, b"GET /ws HTTP/1.1\r\n")
        assert sockets.given_up == []
        await sockets.open(1)
        await eventually(lambda: sockets.given_up == [0], within_s=5)
        assert await sockets.sockets[0][0].read() == b""
        assert server.server.sockets == SOCKETS
        assert server.services.metrics.handshakes_cut == {"crowded": 1}


async def test_a_pod_full_of_sockets_that_never_end_their_request_still_lets_an_honest_client_in() -> None:
    async with crowded() as server, crowd(server) as sockets:
        await sockets.open(SOCKETS)
        dripping = asyncio.create_task(drip(sockets))
        for _ in range(2 * SOCKETS):
            async with connected(server.url, token=token("alice")) as alice:
                assert alice.user_name == "alice"
        dripping.cancel()
        assert server.services.metrics.handshakes_cut["full"] == 0


async def drip(sockets: Crowd) -> None:
    """Send a byte of a request every now and then, over each socket."""
    while True:
        for _, writer in sockets.sockets:
            writer.write(b"G")
        await asyncio.sleep(0.01)


async def test_a_client_in_its_handshake_outlives_as_many_newcomers_as_there_are_slots_for_handshakes() -> None:
    async with crowded() as server, crowd(server) as sockets:
        await sockets.open(SOCKETS)
        await sockets.open(1, REQUEST[:100])
        await sockets.open(SOCKETS - 1)
        reader, writer = sockets.sockets[SOCKETS]
        writer.write(REQUEST[100:])
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_websocket_without_connect_is_evicted_when_the_pod_is_full() -> None:
    async with crowded() as server, crowd(server) as silent:
        await silent.open_websockets(MAX_CONNECTIONS)
        async with connected(server.url, token=token("alice")):
            assert silent.given_up == [0]
            last_words = await silent.sockets[0][0].read()
            assert close_codes.GAVE_WAY.reason.encode() in last_words
            assert b"retry-after-ms:5000" in last_words
            assert last_words.endswith(b"\x88" + bytes([2 + len(close_codes.GAVE_WAY.reason)]) + close_body()), (
                "a close"
            )
            await eventually(lambda: server.services.metrics.closes == {"gave_way": 1}, within_s=2)
            assert server.services.metrics.admissions_refused == {}


def close_body() -> bytes:
    return close_codes.GAVE_WAY.code.to_bytes(2) + close_codes.GAVE_WAY.reason.encode()


async def test_a_full_pod_gives_a_silent_client_time_for_its_connect_and_refuses_the_newcomer() -> None:
    async with crowded(min_connect_s=60) as server, crowd(server) as silent:
        await silent.open_websockets(MAX_CONNECTIONS)
        with pytest.raises(InvalidStatus) as caught:
            await StompClient.open(server.url)
        assert caught.value.response.status_code == 503
        assert silent.given_up == []


async def test_a_silent_client_has_its_whole_time_for_its_connect_and_not_a_moment_more() -> None:
    async with crowded(min_connect_s=30) as server, crowd(server) as silent:
        began = float(int(server.server.clock()))
        server.server.clock = lambda: began
        await silent.open_websockets(MAX_CONNECTIONS)
        server.server.clock = lambda: began + 29.999
        with pytest.raises(InvalidStatus):
            await StompClient.open(server.url)
        server.server.clock = lambda: began + 30
        newcomer = await StompClient.open(server.url)
        assert silent.given_up == [0]
        await newcomer.abort_socket()


async def test_connected_sessions_stay_whatever_comes() -> None:
    async with crowded() as server, AsyncExitStack() as stack, crowd(server) as sockets:
        server.services.grant = False
        waiting = await StompClient.open(server.url)
        await waiting.send("CONNECT", {"accept-version": "1.2", "Authorization": f"Bearer {token('alice')}"})
        await eventually(lambda: server.services.clients, within_s=2)
        server.services.grant = True
        sessions = [await stack.enter_async_context(connected(server.url, token=token("alice"))) for _ in range(2)]
        await sockets.open(3 * SOCKETS)
        for _ in range(2 * SOCKETS):
            with pytest.raises(InvalidStatus):
                await StompClient.open(server.url)
        server.services.clients[0].registered()
        assert (await waiting.next_answer()).command == "CONNECTED"
        for session in (waiting, *sessions):
            await session.subscribe("/user/queue/demo")
        await waiting.close()


async def test_a_pod_of_connected_sessions_and_refused_sockets_cuts_one_socket_more_unheard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pushcluster_gateway.transport.server.MAX_HANDSHAKES", 0)
    async with crowded() as server, AsyncExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            await stack.enter_async_context(connected(server.url, token=token("alice")))
        assert await server.http(REQUEST) == b""
        assert server.services.metrics.handshakes_cut == {"full": 1}


async def test_a_silent_websocket_is_evicted_for_a_socket_when_no_handshake_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pushcluster_gateway.transport.server.MAX_HANDSHAKES", 0)
    async with crowded() as server, crowd(server) as silent:
        await silent.open_websockets(MAX_CONNECTIONS)
        async with connected(server.url, token=token("alice")):
            assert silent.given_up == [0]


async def test_a_client_that_waits_to_be_accepted_evicts_nobody() -> None:
    async with crowded(handshakes_per_s=MAX_CONNECTIONS, manual_clock=True) as server, crowd(server) as silent:
        await silent.open_websockets(MAX_CONNECTIONS)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(REQUEST)
        await eventually(lambda: server.server.waiting == 1, within_s=5)
        assert silent.given_up == []
        writer.close()


async def test_a_refused_client_that_does_not_answer_its_close_is_evicted_too() -> None:
    async with crowded() as server, crowd(server) as silent:
        await silent.open_websockets(MAX_CONNECTIONS)
        for _, writer in silent.sockets:
            writer.write(b"\x81\x88\0\0\0\0garbage\0")  # then nothing: not even an answer to the close
        await eventually(lambda: all(silent.connection(n).cause for n in range(MAX_CONNECTIONS)), within_s=2)
        async with connected(server.url, token=token("alice")):
            assert silent.given_up == [0]
            assert b"malformed" in await silent.sockets[0][0].read()


async def test_a_client_that_takes_nothing_is_evicted_at_once_too() -> None:
    ping = (b"\x89\xfd" + bytes(4) + b"x" * 125) * 1_000
    async with crowded(max_unauthenticated_bytes=1 << 30) as server, crowd(server) as silent:
        await silent.open_websockets(MAX_CONNECTIONS)
        oldest = silent.connection(0)
        _, writer = silent.sockets[0]
        cast(asyncio.Transport, writer.transport).pause_reading()

        async def flood() -> None:
            while True:
                writer.write(ping)
                await writer.drain()

        flooding = asyncio.create_task(flood())
        await eventually(lambda: oldest._transport.get_write_buffer_size() > 0, within_s=30)
        flooding.cancel()
        async with connected(server.url, token=token("alice")):
            await eventually(lambda: server.services.metrics.closes["gave_way"] == 1, within_s=2)
        writer.transport.abort()
