"""Whoever asks when something is written hears of that write, and of no other."""

import asyncio
from typing import Any, cast

import pytest

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.transport.admission import Admission
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.server import MAX_WATCHED, WebSocketServer
from tests.support.waiting import settle


class PlayedTransport(asyncio.Transport):
    """Notes the order of what happens."""

    def __init__(self, name: str, order: list[str]) -> None:
        super().__init__()
        self.name = name
        self.order = order

    def write(self, data: Any) -> None:
        self.order.append(f"{self.name} {bytes(data[-1:]).decode()}")

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return False


class Bench:
    def __init__(self) -> None:
        self.order: list[str] = []
        self.server = WebSocketServer(
            limits=Limits(),
            admission=Admission(max_connections=99, handshakes_per_s=0, now=0.0, random=lambda: 0.5),
            allowed_origins=(),
            metrics=Metrics(),
            clock=lambda: 0.0,
            handler_factory=cast(Any, None),
        )

    def open(self, name: str) -> WebSocketConnection:
        return WebSocketConnection(self.server, PlayedTransport(name, self.order))

    def watch(self, connection: WebSocketConnection, name: str) -> None:
        connection.when_written(lambda: self.order.append(name))


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_the_call_comes_right_after_the_write_of_that_connection(bench: Bench) -> None:
    one, two, three = map(bench.open, ("one", "two", "three"))
    for connection in (one, two, three):
        connection.send(b"1")
    bench.watch(two, "two has written")
    await settle()
    assert bench.order == ["one 1", "two 1", "two has written", "three 1"]
    two.send(b"2")
    await settle()
    assert bench.order[4:] == ["two 2"], "once"


async def test_a_write_that_is_held_up_is_not_over(bench: Bench) -> None:
    connection = bench.open("one")
    connection.pause_writing()
    connection.send(b"1")
    bench.watch(connection, "written")
    await settle()
    assert bench.order == []
    connection.send(b"2")
    await settle()
    assert bench.order == []
    connection.resume_writing()
    await settle()
    assert bench.order == ["one 2", "written"]


async def test_a_connection_that_ends_first_is_forgotten(bench: Bench) -> None:
    connection = bench.open("one")
    connection.pause_writing()
    connection.send(b"1")
    bench.watch(connection, "written")
    connection.connection_lost(None)
    await settle()
    assert (bench.order, bench.server._watched) == ([], {})


async def test_no_more_connections_are_watched_than_the_bound(bench: Bench) -> None:
    for number in range(MAX_WATCHED + 1):
        connection = bench.open(str(number))
        connection.pause_writing()
        connection.send(b"1")
        bench.watch(connection, "written")
    assert len(bench.server._watched) == MAX_WATCHED


async def test_of_a_connection_the_first_write_is_watched(bench: Bench) -> None:
    connection = bench.open("one")
    connection.send(b"1")
    bench.watch(connection, "first")
    bench.watch(connection, "second")
    await settle()
    assert bench.order == ["one 1", "first"]
