"""Time limits of sockets to the millisecond: a real server's, on a clock and a transport of the test."""

import asyncio
from typing import Any, Final, cast

import pytest

from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.transport.admission import Admission
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.pending import PendingConnection
from pushcluster_gateway.transport.server import WebSocketServer

LIMITS: Final = Limits()
BEGAN_S: Final = 1_000.0
MOMENT_S: Final = 0.001
PING: Final = b"\x89\x00"
PONG: Final = b"\x8a\x80\0\0\0\0"
NEVER: Final = float("inf")


class PlayedTransport(asyncio.Transport):
    """Takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever held."""

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "cut"


class PlayedHandler:
    """A client that wants pings and has no deadlines of its own."""

    wants_pings = True

    def __init__(self) -> None:
        self.refused: list[Close] = []

    def received(self, data: bytes | bytearray) -> None: ...
    def outbox_drained(self) -> None: ...
    def closing(self) -> None: ...
    def lost(self) -> None: ...
    def refuse(self, close: Close) -> None:
        self.refused.append(close)

    def check_deadlines(self, now: float) -> float:  # noqa: ARG002 - the shape of a handler
        return NEVER


class Bench:
    """A server that does not listen, whose clock the test moves."""

    def __init__(self) -> None:
        self.now = BEGAN_S
        self.metrics = Metrics()
        self.transport = PlayedTransport()
        self.handler = PlayedHandler()
        self.server = WebSocketServer(
            limits=LIMITS,
            admission=Admission(max_connections=9, handshakes_per_s=0, now=self.now, random=lambda: 0.5),
            allowed_origins=(),
            metrics=self.metrics,
            clock=lambda: self.now,
            handler_factory=cast(Any, None),
        )

    def arrive(self) -> PendingConnection:
        pending = PendingConnection(self.server)
        pending.connection_made(self.transport)
        return pending

    def open(self) -> WebSocketConnection:
        connection = WebSocketConnection(self.server, self.transport)
        connection.open(self.handler, self.server.protocols.lend(), [], received_bytes=0)
        return connection

    def check(self, socket: PendingConnection | WebSocketConnection, after_s: float) -> None:
        """Look at a socket's deadlines so long after the beginning, and write what follows."""
        self.now = BEGAN_S + after_s
        socket.check_deadlines(self.now)
        if isinstance(socket, WebSocketConnection):
            socket.flush(self.now)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_socket_without_a_word_is_cut_when_its_time_for_the_request_is_over_and_not_before(
    bench: Bench,
) -> None:
    pending = bench.arrive()
    bench.check(pending, LIMITS.handshake_timeout_s - MOMENT_S)
    assert bench.transport.ended == ""
    bench.check(pending, LIMITS.handshake_timeout_s)
    assert (bench.transport.ended, bench.metrics.handshakes_cut) == ("cut", {"silent": 1})


async def test_a_request_that_does_not_end_is_refused_when_its_time_is_over_and_not_before(bench: Bench) -> None:
    pending = bench.arrive()
    pending.data_received(b"GET /ws HTTP/1.1\r\n")
    bench.check(pending, LIMITS.handshake_timeout_s - MOMENT_S)
    assert (bench.transport.written, bench.transport.ended) == (b"", "")
    bench.check(pending, LIMITS.handshake_timeout_s)
    assert bench.transport.written.startswith(b"HTTP/1.1 408 ")
    assert bench.transport.ended == "closed"


async def test_a_client_that_does_not_answer_a_close_is_cut_when_its_time_is_over_and_not_before(bench: Bench) -> None:
    connection = bench.open()
    connection.close(close_codes.DRAINING)
    bench.check(connection, LIMITS.close_timeout_s - MOMENT_S)
    assert close_codes.DRAINING.reason.encode() in bench.transport.written
    assert bench.transport.ended == ""
    bench.check(connection, LIMITS.close_timeout_s)
    assert bench.transport.ended == "cut"


async def test_a_ping_goes_out_after_its_interval_and_a_client_without_a_pong_after_one_more(bench: Bench) -> None:
    connection = bench.open()
    bench.check(connection, LIMITS.ping_interval_s - MOMENT_S)
    assert bench.transport.written == b""
    bench.check(connection, LIMITS.ping_interval_s)
    assert bench.transport.written == PING
    bench.check(connection, 2 * LIMITS.ping_interval_s - MOMENT_S)
    assert bench.handler.refused == []
    bench.check(connection, 2 * LIMITS.ping_interval_s)
    assert bench.handler.refused == [close_codes.NO_PONG]


async def test_a_pong_in_the_last_moment_keeps_the_client(bench: Bench) -> None:
    connection = bench.open()
    bench.check(connection, LIMITS.ping_interval_s)
    bench.now = BEGAN_S + 2 * LIMITS.ping_interval_s - MOMENT_S
    connection.data_received(PONG)
    bench.check(connection, 3 * LIMITS.ping_interval_s - MOMENT_S)
    assert (bench.transport.written, bench.handler.refused) == (2 * PING, [])
