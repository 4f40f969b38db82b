"""More connections than a dispatcher's API may have, on real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pytest

from pushcluster_dispatcher.api import connections, listener
from pushcluster_dispatcher.api.connections import ApiServer, BoundedConnection, CutCause
from pushcluster_dispatcher.api.listener import Listener, StrangerRate
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


async def ask_without_a_key(crowd: Crowd) -> asyncio.Task[int]:
    """Connect, ask without a key, and return what becomes of it."""
    peer = Peer(*await asyncio.open_connection(HOST, crowd.bench.port), crowd.noticed)
    crowd.peers.append(peer)
    peer.writer.write(b"GET /v1/users/alice/sessions HTTP/1.1\r\nHost: a\r\n\r\n")
    return asyncio.create_task(peer.answered())


def pauses(crowd: Crowd) -> float:
    return float(crowd.bench.metrics.api_pauses._value.get())


async def test_clients_without_a_key_are_answered_at_a_bounded_rate_and_the_others_wait_unaccepted(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "STRANGERS_AT_ONCE", 2)
    monkeypatch.setattr(listener, "STRANGERS_PER_S", 1e-6)
    crowd.bench.server._listener._rate = StrangerRate(asyncio.get_running_loop().time())
    known = crowd.noticed.connections
    asking = [await ask_without_a_key(crowd) for _ in range(5)]
    assert [await task for task in asking[:2]] == [401, 401]
    await eventually(lambda: pauses(crowd) == 1, within_s=5)
    assert crowd.noticed.connections == known + 2
    assert not any(task.done() for task in asking[2:])
    monkeypatch.setattr(listener, "STRANGERS_PER_S", 1_000.0)
    crowd.bench.server._listener._resume()
    assert [await task for task in asking[2:]] == [401] * 3


async def test_clients_with_a_key_are_accepted_however_many_come(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STRANGERS_AT_ONCE", 2)
    monkeypatch.setattr(listener, "STRANGERS_PER_S", 1e-6)
    crowd.bench.server._listener._rate = StrangerRate(asyncio.get_running_loop().time())
    for _ in range(10):
        peer = await crowd.join()
        assert [await peer.request() for _ in range(3)] == [202] * 3
        peer.writer.close()
    assert [await (await ask_without_a_key(crowd)) for _ in range(2)] == [401] * 2, "a key counts once a connection"
    late = await ask_without_a_key(crowd)
    await eventually(lambda: pauses(crowd) == 1, within_s=5)
    late.cancel()


def test_so_many_strangers_come_at_once_and_one_more_waits_for_its_turn() -> None:
    rate = StrangerRate(1_000.0)
    assert [rate.take(1_000.0) for _ in range(50)] == [0.0] * 50
    assert rate.take(1_000.0) == pytest.approx(1 / 500)
    assert rate.take(1_000.001) == pytest.approx(1 / 1_000)
    assert rate.take(1_000.0021) == 0.0
    assert [rate.take(2_000.0) for _ in range(51)] == [0.0] * 50 + [pytest.approx(1 / 500)], "a pause saves no more"


def test_a_place_that_is_given_back_is_for_the_next_one_and_no_more_than_there_are() -> None:
    rate = StrangerRate(0.0)
    rate.give_back()
    assert [bool(rate.take(0.0)) for _ in range(51)] == [False] * 50 + [True]
    rate.give_back()
    assert [bool(rate.take(0.0)) for _ in range(2)] == [False, True]


async def test_only_so_many_connections_are_accepted_in_one_turn_of_the_event_loop() -> None:
    made: list[int] = []
    turn = 0

    def connect() -> asyncio.Protocol:
        made.append(turn)
        return asyncio.Protocol()

    opened = Listener(connect, on_pause=lambda: None)
    port = opened.start(HOST, 0)
    sockets = [socket.create_connection((HOST, port)) for _ in range(30)]
    try:
        while len(made) < len(sockets):
            turn += 1
            await asyncio.sleep(0)
        assert max(made.count(each) for each in set(made)) <= 8
    finally:
        opened.close()
        opened.close()
        for each in sockets:
            each.close()


async def test_a_system_without_resources_costs_a_pause_and_not_the_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "NO_RESOURCES_PAUSE_S", 0.01)
    made: list[asyncio.Protocol] = []

    def connect() -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        return made[-1]

    opened = Listener(connect, on_pause=lambda: None)
    port = opened.start(HOST, 0)
    failures = iter([OSError(24, "Too many open files")] * 2)
    accept = socket.socket.accept

    def fail_first(self: socket.socket) -> tuple[socket.socket, object]:
        for failure in failures:
            raise failure
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail_first)
    with socket.create_connection((HOST, port)):
        await eventually(lambda: made, within_s=5)
    opened.close()


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
