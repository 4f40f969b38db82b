"""More connections than a dispatcher's API may have, on real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pytest

from pushcluster_dispatcher.api import connections
from pushcluster_dispatcher.api.connections import ApiServer, BoundedConnection, CutCause
from tests.support.waiting import eventually
from tests.unit.dispatcher.api.bench import HOST, KEY, PATH, Bench

MOST: Final = 3
HEAD: Final = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 2\r\n"
REQUEST: Final = f"{HEAD}\r\nhi".encode()


@dataclass
class Noticed:
    """What the server has noticed of its sockets."""

    connections: int = 0
    reads: int = 0


@pytest.fixture(autouse=True)
def noticed(monkeypatch: pytest.MonkeyPatch) -> Noticed:
    """Allow few connections, and count what the server notices: before it listens, for it takes methods once."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", MOST)
    monkeypatch.setattr(connections, "STRANGERS", 1)
    noticed = Noticed()
    connect, receive = ApiServer._new_connection, BoundedConnection.data_received

    def count_connection(server: ApiServer) -> asyncio.Protocol:
        noticed.connections += 1
        return connect(server)

    def count_read(connection: BoundedConnection, data: bytes) -> None:
        noticed.reads += 1
        receive(connection, data)

    monkeypatch.setattr(ApiServer, "_new_connection", count_connection)
    monkeypatch.setattr(BoundedConnection, "data_received", count_read)
    return noticed


async def turn_until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until this holds, and what follows from it has happened."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - it is the loop's turns that count
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)


class Peer:
    """One connection's other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, noticed: Noticed) -> None:
        self.reader = reader
        self.writer = writer
        self._noticed = noticed

    async def say(self, data: bytes) -> None:
        """Send this, and return when the server has read it."""
        reads = self._noticed.reads
        self.writer.write(data)
        await turn_until(lambda: self._noticed.reads > reads)

    async def request(self) -> int:
        """Publish, and return the answer's status once the connection is idle again."""
        self.writer.write(REQUEST)
        status = await self.answered()
        await turn_until(lambda: True)
        return status

    async def answered(self) -> int:
        async with asyncio.timeout(5):
            status = int((await self.reader.readline()).split()[1])
            while (await self.reader.readline()).strip():
                pass
            await self.reader.readuntil(b"}")
        return status

    async def ended(self) -> bytes:
        """Wait for the server to close, and return what it said."""
        async with asyncio.timeout(5):
            return await self.reader.read()


class Crowd:
    """Everybody who is connected to one server."""

    def __init__(self, bench: Bench, noticed: Noticed) -> None:
        self.bench = bench
        self.noticed = noticed
        self.peers: list[Peer] = []

    async def join(self) -> Peer:
        """Connect, and return when the server knows it."""
        known = self.noticed.connections
        peer = Peer(*await asyncio.open_connection(HOST, self.bench.port), self.noticed)
        self.peers.append(peer)
        await turn_until(lambda: self.noticed.connections > known)
        return peer

    def count(self, cut: CutCause) -> float:
        return float(self.bench.metrics.api_connections_cut.labels(cut.value)._value.get())


@pytest.fixture
async def crowd(noticed: Noticed, bench: Bench) -> AsyncIterator[Crowd]:
    made = Crowd(bench, noticed)
    yield made
    for peer in made.peers:
        peer.writer.close()


async def test_beyond_the_limit_of_connections_the_oldest_silent_one_is_closed_for_a_new_one(crowd: Crowd) -> None:
    silent = [await crowd.join() for _ in range(MOST)]
    assert crowd.count(CutCause.CROWDED) == 0
    newcomer = await crowd.join()
    assert await silent[0].ended() == b"", "it asked nothing, so it is answered nothing"
    assert await newcomer.request() == 202
    assert crowd.count(CutCause.CROWDED) == 1
    assert [peer.reader.at_eof() for peer in silent[1:]] == [False, False]


async def test_a_client_that_has_begun_a_request_is_told_why_its_connection_is_closed(crowd: Crowd) -> None:
    slow = await crowd.join()
    await slow.say(HEAD.encode())
    for _ in range(MOST):
        await crowd.join()
    answer = await slow.ended()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in answer


async def test_a_connection_with_a_key_stays_while_another_one_can_be_closed(crowd: Crowd) -> None:
    trusted = await crowd.join()
    assert await trusted.request() == 202
    wrong = await crowd.join()
    await wrong.say(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\nX: ")
    for _ in range(10 * MOST):
        await crowd.join()
    assert await trusted.request() == 202


async def test_if_every_connection_has_a_key_the_one_idle_longest_is_closed(crowd: Crowd) -> None:
    trusted = [await crowd.join() for _ in range(MOST)]
    for peer in [*trusted, trusted[0]]:
        assert await peer.request() == 202
    newcomer = await crowd.join()
    assert await newcomer.request() == 202
    assert await trusted[1].ended() == b""
    assert await trusted[0].request() == 202


async def test_if_every_connection_is_at_work_a_new_one_is_refused_and_none_is_interrupted(crowd: Crowd) -> None:
    crowd.bench.broker.held = asyncio.Event()
    working = [await crowd.join() for _ in range(MOST)]
    for peer in working:
        peer.writer.write(REQUEST)
    await eventually(lambda: len(crowd.bench.broker.published) == MOST, within_s=5)
    refusal = await (await crowd.join()).ended()
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in refusal
    assert crowd.count(CutCause.FULL) == 1
    crowd.bench.broker.held.set()
    assert [await peer.answered() for peer in working] == [202] * MOST
    working[0].writer.close()
    assert await (await crowd.join()).request() == 202


async def test_a_request_whose_head_has_begun_on_a_trusted_connection_is_not_interrupted(crowd: Crowd) -> None:
    trusted = [await crowd.join() for _ in range(MOST)]
    for peer in trusted:
        assert await peer.request() == 202
    await trusted[0].say(HEAD.encode())
    await crowd.join()
    assert await trusted[1].ended() == b""
    trusted[0].writer.write(b"\r\nhi")
    assert await trusted[0].answered() == 202


async def test_slow_loris_keeps_nobody_out(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds all connections, sends a header line now and then, and soon opens another for each that it loses."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 100)
    monkeypatch.setattr(connections, "STRANGERS", 25)

    async def hold() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, crowd.bench.port)
                try:
                    writer.write(b"POST / HTTP/1.1\r\n")
                    while not reader.at_eof():
                        writer.write(b"X-A: b\r\n")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                finally:
                    writer.close()
            await asyncio.sleep(0.5)

    async def come_and_ask() -> Peer:
        sock = socket.create_connection((HOST, crowd.bench.port))
        sock.send(REQUEST)
        crowd.peers.append(Peer(*await asyncio.open_connection(sock=sock), crowd.noticed))
        return crowd.peers[-1]

    loris = [asyncio.create_task(hold()) for _ in range(110)]
    try:
        await eventually(lambda: crowd.count(CutCause.CROWDED) > 0, within_s=5)
        for _ in range(150):
            assert await (await come_and_ask()).answered() == 202
        assert crowd.count(CutCause.FULL) == 0
    finally:
        for task in loris:
            task.cancel()
        await asyncio.gather(*loris, return_exceptions=True)
