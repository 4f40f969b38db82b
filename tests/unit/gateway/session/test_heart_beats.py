"""Heart-beats and pings, over a real socket: who is alive, and who is given up."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.server import WHEEL_TICK_S
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.stomp_client import connected
from tests.support.waiting import eventually

LIMITS = Limits()


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS, manual_clock=True) as running:
        yield running


def hosted(server: RunningServer, number: int = 0) -> Client:
    return server.services.clients[number]


async def test_the_gateway_sends_heart_beats_when_they_were_agreed_on(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(0, 10_000)) as client:
        for beats in (1, 2, 3):
            await server.pass_time(10)
            await eventually(lambda: client.heart_beats >= beats, within_s=5)  # noqa: B023 - waited for here


async def test_the_gateway_sends_no_heart_beats_to_a_client_that_wants_none(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(0, 0)) as client:
        await server.pass_time(40)
        await client.subscribe("/user/queue/demo")
        assert client.heart_beats == 0


async def test_pings_do_not_stand_in_for_heart_beats(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(0, 10_000)) as client:
        for _ in range(8):
            await client.has_been_read()
            await server.pass_time(5)
        await eventually(lambda: client.heart_beats >= 3, within_s=5)


async def test_messages_stand_in_for_heart_beats(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(0, 10_000)) as client:
        await client.subscribe("/user/queue/demo")
        for _ in range(8):
            server.services.push("alice", b"m")
            await server.pass_time(5)
        await client.next_messages(8)
        await client.unsubscribe()
        assert client.heart_beats == 0


async def test_a_client_that_promised_heart_beats_and_sends_none_is_closed(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(25_000, 0)) as client:
        silence_s = 25 * LIMITS.heart_beat_grace
        await server.pass_time(silence_s - 1)
        await client.has_been_read()
        await server.pass_time(1 + WHEEL_TICK_S)
        assert "no heart-beat" in (await client.expect_error()).text
        assert client.close_code == close_codes.NO_HEART_BEAT.code


async def test_heart_beats_of_the_client_keep_it(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(25_000, 0)) as client:
        for _ in range(5):
            await client.send_raw("\n")
            await client.has_been_read()
            await server.pass_time(25)
        await client.has_been_read()


async def test_a_client_without_heart_beats_is_kept_by_its_pongs(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, reads = WebSocketConnection.data_received, 0

    def count_reads(connection: WebSocketConnection, data: bytes) -> None:
        nonlocal reads
        reads += 1
        receive(connection, data)

    monkeypatch.setattr(WebSocketConnection, "data_received", count_reads)
    async with connected(server.url, token=token("alice"), heart_beat=(0, 0)) as client:
        for pongs in range(1, 4):
            await server.pass_time(LIMITS.ping_interval_s + WHEEL_TICK_S)
            await eventually(lambda: reads == 1 + pongs, within_s=5)  # noqa: B023 - waited for here
        await client.has_been_read()


async def test_a_socket_that_answers_no_ping_is_closed(server: RunningServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await raw_connect(reader, writer)
    await server.pass_time(2 * (LIMITS.ping_interval_s + WHEEL_TICK_S))
    await server.pass_time(LIMITS.close_timeout_s + WHEEL_TICK_S)
    rest = await asyncio.wait_for(reader.read(), 5)
    assert b"\x89\x00" in rest, "a ping"
    assert b"no pong" in rest
    writer.close()
    await eventually(lambda: server.services.metrics.closes["no_pong"] == 1, within_s=2)


async def raw_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open WebSocket and session by hand, so that nothing answers pings."""
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    frame = f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token('alice')}\n\n\0".encode()
    writer.write(b"\x82\xfe" + len(frame).to_bytes(2, "big") + b"\0\0\0\0" + frame)
    await reader.readuntil(b"CONNECTED")


async def test_a_connection_whose_deadlines_cannot_be_checked_is_cut_and_the_others_are_still_checked(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check = WebSocketConnection.check_deadlines

    async with (
        connected(server.url, token=token("alice")) as alice,
        connected(server.url, token=token("bob"), heart_beat=(0, 10_000)) as bob,
    ):
        broken = hosted(server).socket

        def fail_for_alice(connection: WebSocketConnection, now: float) -> None:
            if connection is broken:
                raise RuntimeError("a defect")
            check(connection, now)

        monkeypatch.setattr(WebSocketConnection, "check_deadlines", fail_for_alice)
        await server.pass_time(LIMITS.ping_interval_s + WHEEL_TICK_S)
        await eventually(lambda: alice.closed, within_s=5)
        assert "could not check a connection's deadlines" in caplog.text
        beats = bob.heart_beats
        await server.pass_time(30)
        await eventually(lambda: bob.heart_beats >= beats + 3, within_s=5)
