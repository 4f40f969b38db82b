"""How many connections a Redis client makes, and how long it tries. No Redis: a listener that answers when told to."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from redis.asyncio import Connection, Redis

from pushcluster_contract.errors import Unavailable
from pushcluster_runtime.redis import client as client_module
from pushcluster_runtime.redis import wire
from pushcluster_runtime.redis.client import MAX_CONNECTIONS, connect, translated
from pushcluster_runtime.redis.wire import RedisWire
from tests.support.waiting import eventually


class Listener:
    """Takes connections and keeps what each asks for."""

    def __init__(self) -> None:
        self.peers: list[asyncio.StreamWriter] = []
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer)
        while await reader.read(1_000):
            self.asked += 1


async def say_nothing(connection: Connection) -> None:
    """Begin a connection without a command."""
    cast(Any, connection)._parser.on_connect(connection)


@contextlib.asynccontextmanager
async def client_of(listener: Listener) -> AsyncIterator[Redis]:
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    made = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", name="test")
    yield made
    await made.aclose()
    server.close()
    for peer in listener.peers:
        peer.close()
        with contextlib.suppress(ConnectionError):
            await peer.wait_closed()


async def test_one_command_more_than_there_are_connections_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_prepare_connection", say_nothing)
    listener = Listener()
    async with client_of(listener) as client:
        asking = [asyncio.ensure_future(client.ping()) for _ in range(MAX_CONNECTIONS + 1)]
        await eventually(lambda: listener.asked >= MAX_CONNECTIONS, within_s=4)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (len(listener.peers), listener.asked) == (MAX_CONNECTIONS, MAX_CONNECTIONS)
        listener.peers[0].write(b"+PONG\r\n")
        await eventually(lambda: listener.asked == MAX_CONNECTIONS + 1, within_s=4)
        assert len(listener.peers) == MAX_CONNECTIONS
        for peer in listener.peers:
            peer.write(b"+PONG\r\n")
        assert await asyncio.gather(*asking) == [True] * (MAX_CONNECTIONS + 1)


async def test_a_command_that_gets_no_free_connection_in_time_raises_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_prepare_connection", say_nothing)
    monkeypatch.setattr(client_module, "REPLY_TIMEOUT_S", 0.1)
    async with client_of(Listener()) as client:
        pool = cast(Any, client.connection_pool)
        taken = [await pool.get_connection() for _ in range(MAX_CONNECTIONS)]
        with pytest.raises(Unavailable, match="No connection available"), translated():
            await asyncio.wait_for(client.ping(), 4)
        for connection in taken:
            await pool.release(connection)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that the kernel answers no more of them."""
    with socket.socket() as listening, socket.socket() as first:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        first.connect(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("how", ["client", "wire"])
async def test_a_redis_that_takes_no_connection_is_given_up_in_time(
    deaf_port: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(wire, "CONNECT_TIMEOUT_S", 0.1)
    url = f"redis://127.0.0.1:{deaf_port}/0"

    async def ask() -> None:
        if how == "wire":
            await RedisWire.connect(url, name="test", silence_s=60)
        with translated():
            await connect(url, name="test").ping()

    async with asyncio.timeout(client_module.REPLY_TIMEOUT_S - 1):
        with pytest.raises(Unavailable, match=r"no connection within 0\.1 s|Timeout connecting"):
            await ask()
