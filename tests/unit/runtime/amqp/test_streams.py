"""pika's protocol over the event loop's transports, with both event loops, with TLS and without."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from pika.adapters.utils.nbio_interface import AbstractStreamProtocol, AbstractStreamTransport

from pushcluster_runtime.amqp.streams import PAUSE_BYTES, LoopServices
from tests.support.issuer import Authority
from tests.support.waiting import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


class Protocol(AbstractStreamProtocol):
    """Stands for pika's connection."""

    def __init__(self) -> None:
        self.transport: AbstractStreamTransport | None = None
        self.data = b""
        self.reads: list[int] = []
        self.eof = False
        self.lost: list[BaseException | None] = []
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: AbstractStreamTransport) -> None:
        self.transport = transport

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.append(error)

    def eof_received(self) -> bool:
        self.eof = True
        return False

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.reads.append(len(data))
        self.on_data()


class Peer(asyncio.Protocol):
    """The other end."""

    def __init__(self) -> None:
        self.data = b""
        self.made = self.lost = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.made = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True


@asynccontextmanager
async def linking(
    results: list[Any], *, server: ssl.SSLContext | None = None, client: ssl.SSLContext | None = None, name: str = ""
) -> AsyncIterator[tuple[Protocol, Peer]]:
    """Link a protocol with a socket. `results` gets what `on_done` is called with."""
    loop = asyncio.get_running_loop()
    peer, protocol = Peer(), Protocol()
    listener = await loop.create_server(lambda: peer, "127.0.0.1", 0, ssl=server)
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, listener.sockets[0].getsockname())
    LoopServices(loop).create_streaming_connection(lambda: protocol, sock, results.append, client, name or None)
    await eventually(lambda: results)
    if protocol.transport is not None:
        await eventually(lambda: peer.made)
    try:
        yield protocol, peer
    finally:
        if protocol.transport is not None:
            protocol.transport.abort()
            peer.transport.abort()
            await eventually(lambda: protocol.lost and peer.lost)
        listener.close()
        await asyncio.sleep(0)


def authority_contexts(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority(folder)
    return authority.server_context(host), ssl.create_default_context(cafile=authority.ca_file)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_bytes_go_both_ways_and_pika_is_told_once(run: Run, tls: bool, tmp_path: Path) -> None:
    async def main() -> None:
        server, client = authority_contexts(tmp_path, "127.0.0.1") if tls else (None, None)
        results: list[Any] = []
        async with linking(results, server=server, client=client, name="127.0.0.1") as (protocol, peer):
            assert protocol.transport is not None
            protocol.transport.write(b"to the broker")
            await eventually(lambda: peer.data == b"to the broker")
            peer.transport.write(b"from the broker")
            await eventually(lambda: protocol.data == b"from the broker")
            protocol.transport.abort()
            await eventually(lambda: protocol.lost == [None] and peer.lost)
        assert results == [(protocol.transport, protocol)]

    run(main())


def test_pika_is_told_of_the_link_before_it_gets_a_byte(run: Run) -> None:
    async def main() -> None:
        results: list[Any] = []
        known: list[bool] = []
        async with linking(results) as (protocol, peer):
            protocol.on_data = lambda: known.append(bool(results))
            peer.transport.write(b"x")
            await eventually(lambda: known)
        assert known == [True]

    run(main())


@pytest.mark.parametrize("host", ["another.example", ""])
def test_a_broker_with_a_wrong_certificate_is_an_error_told_once(run: Run, host: str, tmp_path: Path) -> None:
    async def main() -> None:
        server, client = authority_contexts(tmp_path, host or "127.0.0.1")
        client = client if host else ssl.create_default_context()
        results: list[Any] = []
        async with linking(results, server=server, client=client, name="127.0.0.1") as (protocol, _):
            assert isinstance(results[0], ssl.SSLError)
            await asyncio.sleep(0)
            assert len(results) == 1
            assert protocol.transport is None

    run(main())


def test_the_end_of_the_stream_ends_the_connection_at_once_although_bytes_are_unsent(run: Run) -> None:
    async def main() -> None:
        results: list[Any] = []
        async with linking(results) as (protocol, peer):
            assert protocol.transport is not None
            peer.transport.pause_reading()
            protocol.transport.write(bytes(50_000_000))
            assert protocol.transport.get_write_buffer_size() > 0
            peer.transport.write_eof()
            await eventually(lambda: protocol.lost == [None])
            assert protocol.eof

    run(main())


def test_an_error_in_pika_ends_the_connection_with_this_error(run: Run) -> None:
    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        error = ValueError("not AMQP")

        def fail() -> None:
            raise error

        async with linking([]) as (protocol, peer):
            protocol.on_data = fail
            peer.transport.write(b"x")
            await eventually(lambda: protocol.lost)
            assert protocol.lost == [error]
            assert told == [error]

    run(main())


def test_a_reset_connection_is_lost_with_the_reason(run: Run) -> None:
    async def main() -> None:
        async with linking([]) as (protocol, peer):
            sock: socket.socket = peer.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.transport.abort()
            await eventually(lambda: protocol.lost)
            assert isinstance(protocol.lost[0], ConnectionResetError)

    run(main())


def test_others_have_their_turn_between_large_reads(run: Run) -> None:
    async def main() -> None:
        turns = 0
        turns_at_reads: list[int] = []
        async with linking([]) as (protocol, peer):

            def turn() -> None:
                nonlocal turns
                turns += 1
                asyncio.get_running_loop().call_soon(turn)

            # The reader waits until much has arrived. One large read after the other would follow.
            peer.transport.write(bytes(8_000_000))
            protocol.on_data = lambda: turns_at_reads.append(turns)
            turn()
            await eventually(lambda: len(protocol.data) == 8_000_000)
        large = [at for at, size in zip(turns_at_reads, protocol.reads, strict=True) if size >= PAUSE_BYTES]
        assert len(large) > 10
        assert len(set(large)) == len(large)

    run(main())


def test_a_link_that_pika_gives_up_is_told_nothing(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = Peer()
        listener = await loop.create_server(lambda: peer, "127.0.0.1", 0)
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.sockets[0].getsockname())
        results: list[Any] = []
        # The server never answers the TLS handshake.
        client = ssl.create_default_context()
        link = LoopServices(loop).create_streaming_connection(Protocol, sock, results.append, client, "127.0.0.1")
        await eventually(lambda: peer.data)
        link.cancel()
        await eventually(lambda: peer.lost)
        assert results == []
        listener.close()

    run(main())
