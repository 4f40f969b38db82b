"""What a client's TCP has acknowledged counts as delivered, and nothing else that was written to its socket."""

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport import connection as connection_module
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.send_queue import count_unacknowledged
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

MESSAGE_BYTES: Final = 10_000
FLOOD: Final = 1_000
HELD_BYTES: Final = 10_000
"""At least so much of a flood stays in the kernel when its client reads nothing."""


def transport_of(tcp: socket.socket | None) -> asyncio.BaseTransport:
    return cast(asyncio.BaseTransport, SimpleNamespace(get_extra_info=lambda _: tcp))


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            yield near, far


class TestCount:
    async def test_what_a_peer_s_kernel_has_received_is_acknowledged_although_nobody_reads_it(self) -> None:
        with tcp_pair() as (near, _):
            near.sendall(b"x" * 1_000)
            # A kernel may delay an acknowledgement by 40 ms.
            await eventually(lambda: count_unacknowledged(transport_of(near)) == 0, within_s=5)

    def test_what_finds_no_room_there_is_not(self) -> None:
        with tcp_pair() as (near, far):
            near.setblocking(False)
            sent = 0
            try:
                while True:
                    sent += near.send(b"x" * 65_536)
            except BlockingIOError:
                pass
            unacknowledged = count_unacknowledged(transport_of(near))
            assert unacknowledged is not None
            received = int.from_bytes(fcntl.ioctl(far.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
            assert 0 < sent - unacknowledged <= received

    def test_a_reset_acknowledges_nothing(self) -> None:
        with tcp_pair() as (near, far):
            near.setblocking(False)
            near.send(b"x" * 10_000_000)
            before = count_unacknowledged(transport_of(near))
            far.close()  # with bytes unread: a reset
            assert before
            assert count_unacknowledged(transport_of(near)) == before

    def test_a_socket_that_is_closed_or_missing_tells_nothing(self) -> None:
        with tcp_pair() as (near, _):
            near.close()
            assert count_unacknowledged(transport_of(near)) is None
        assert count_unacknowledged(transport_of(None)) is None


LIMITS: Final = Limits(max_outbox_bytes=20_000, max_outbox_messages=50)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS) as running:
        yield running


def only_connection(server: RunningServer) -> WebSocketConnection:
    (connection,) = server.server.connections
    return connection


async def flood(server: RunningServer, client: StompClient) -> WebSocketConnection:
    """Send much to a client that reads nothing of it."""
    await client.subscribe("/user/queue/demo")
    client.socket.transport.pause_reading()
    for _ in range(FLOOD):
        server.services.push("alice", b"x" * MESSAGE_BYTES)
        await asyncio.sleep(0)
    connection = only_connection(server)
    assert connection.outbox.paused, "the kernel takes no more"
    return connection


async def test_what_the_kernel_holds_when_the_connection_dies_was_not_delivered(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        connection = await flood(server, client)
        taken = connection.outbox.written_bytes - connection._transport.get_write_buffer_size()
        assert connection.sample_accepted() <= taken - HELD_BYTES
        subscription = server.services.subscriptions[0]
        written = subscription.machine.position
        await client.abort_socket()
        await eventually(lambda: server.services.left, within_s=5)
        subscription.cursor_to_flush()
        assert subscription.progress.accepted.seq * MESSAGE_BYTES <= connection.accepted_bytes <= taken - HELD_BYTES
        assert subscription.progress.accepted < written


async def test_what_a_client_got_just_before_it_left_was_delivered(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        message_id = server.services.push("alice", b"last")
        await client.next_message()
        await client.disconnect()
        await eventually(lambda: server.services.left, within_s=5)
        assert server.services.subscriptions[0].cursor_to_flush() == (message_id, message_id)


async def test_where_the_kernel_cannot_tell_nothing_more_counts(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        first = server.services.push("alice", b"1")
        await client.next_message()
        subscription, accepted = server.services.subscriptions[0], only_connection(server).sample_accepted
        await eventually(lambda: subscription.cursor_to_flush() == (first, first), within_s=2)
        before = accepted()
        monkeypatch.setattr(connection_module, "count_unacknowledged", lambda _: None)
        server.services.push("alice", b"2")
        await client.next_message()
        assert accepted() == before
        assert subscription.progress.accepted == first


async def test_it_is_not_asked_for_every_push_nor_when_everything_is_acknowledged(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def count(transport: asyncio.BaseTransport) -> int | None:
        asked.append(transport)
        return count_unacknowledged(transport)

    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        connection = only_connection(server)
        monkeypatch.setattr(server.services, "cursor_moved", lambda _: None)  # one flush a second comes much later
        monkeypatch.setattr(connection_module, "count_unacknowledged", count)
        for n in range(200):
            server.services.push("alice", b"%d" % n)
        await client.next_messages(200)
        assert asked == []
        await eventually(lambda: connection.sample_accepted() == connection.outbox.written_bytes, within_s=5)
        asked.clear()
        assert connection.sample_accepted() == connection.outbox.written_bytes
        assert asked == []


async def test_a_socket_that_is_gone_is_not_asked_because_its_number_may_be_another_s(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(server.url, token=token("alice")) as client:
        connection = await flood(server, client)
        await client.abort_socket()
        await eventually(lambda: server.services.left, within_s=5)
        before = connection.accepted_bytes
        connection.outbox.written_bytes += 1
        monkeypatch.setattr(connection_module, "count_unacknowledged", lambda _: 0)
        assert connection.sample_accepted() == before
