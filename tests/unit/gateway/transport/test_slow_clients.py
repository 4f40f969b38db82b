"""What waits for a socket, and what is not read from it meanwhile: all of it bounded, and nobody else feels it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from pushcluster_contract.ids import StreamId
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.transport.connection import STALL_CHECK_S, WebSocketConnection
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

LIMITS = Limits(
    max_outbox_bytes=20_000,
    max_outbox_messages=50,
    max_control_bytes=2_000,
    max_calls_in_flight=4,
    subscribe_burst=8_000,
)


ONE_READ_BYTES = 262_144
"""What asyncio and uvloop read from a socket at once."""


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS, manual_clock=True) as running:
        yield running


def hosted(server: RunningServer, number: int = 0) -> Client:
    return server.services.clients[number]


async def test_a_burst_becomes_one_write(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        socket = hosted(server).socket
        writes: list[int] = []
        take = socket.outbox.take
        before = socket.outbox.written_bytes
        for n in range(40):
            server.services.push("alice", b"%d" % n)
        assert socket.outbox.written_bytes == before, "nothing is written before the end of the tick"
        writes.append(len(take()))
        assert writes[0] > 40 * 50


async def test_every_message_of_a_burst_arrives_in_order(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        for n in range(500):
            server.services.push("alice", b"%d" % n)
        messages = await client.next_messages(500)
        assert [message.body for message in messages] == [b"%d" % n for n in range(500)]


async def test_the_cursor_moves_only_when_the_socket_has_taken_the_bytes(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        message_id = server.services.push("alice", b"1")
        subscription = server.services.subscriptions[0]
        assert server.services.moved[-1] == (StreamId(0, 0), message_id), "sent, and not yet taken"
        await client.next_message()
        await eventually(lambda: subscription.cursor_to_flush() == (message_id, message_id), within_s=2)
        assert subscription.cursor_to_flush() is None


async def stop_reading(client: StompClient) -> None:
    """Leave everything that comes in the kernel's buffers."""
    client.socket.transport.pause_reading()


def is_read(server: RunningServer) -> bool:
    """Return whether the server reads from its one connection."""
    (connection,) = server.server.connections
    return connection._transport.is_reading()


async def flood(server: RunningServer, user: str, messages: int, size: int = 10_000) -> None:
    for _ in range(messages):
        server.services.push(user, b"x" * size)
        await asyncio.sleep(0)


@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
async def test_a_client_that_reads_nothing_is_told_why_it_is_closed_once_it_reads(
    server: RunningServer, ack: str
) -> None:
    async with connected(server.url, token=token("slow")) as slow:
        await slow.subscribe("/user/queue/demo", ack=ack)
        await stop_reading(slow)
        await flood(server, "slow", 1_000)
        await server.pass_time(LIMITS.slow_consumer_s - STALL_CHECK_S)
        assert not hosted(server).ended
        await server.pass_time_until(lambda: hosted(server).ended, within_s=3 * STALL_CHECK_S)
        slow.socket.transport.resume_reading()
        error = await slow.expect_error()
        assert error["message"] == close_codes.SLOW_CONSUMER.reason
        assert slow.close_code == close_codes.SLOW_CONSUMER.code == 4001


@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
async def test_a_client_that_reads_nothing_holds_a_bounded_outbox_and_is_closed(
    server: RunningServer, ack: str
) -> None:
    async with connected(server.url, token=token("slow")) as slow:
        await slow.subscribe("/user/queue/demo", ack=ack)
        outbox = hosted(server).socket.outbox
        await stop_reading(slow)
        await flood(server, "slow", 1_000)
        assert outbox.end_offset - outbox.written_bytes <= LIMITS.max_outbox_bytes + 11_000
        await server.pass_time(LIMITS.slow_consumer_s + LIMITS.close_timeout_s + 3 * STALL_CHECK_S)
        await eventually(lambda: server.services.metrics.closes["slow_consumer"] == 1, within_s=5)
        await slow.abort_socket()


async def test_a_slow_client_gets_everything_in_order_once_it_reads_again(server: RunningServer) -> None:
    async with connected(server.url, token=token("slow")) as slow:
        await slow.subscribe("/user/queue/demo")
        await stop_reading(slow)
        await flood(server, "slow", 1_000)
        assert server.services.subscriptions[0].machine.waits
        slow.socket.transport.resume_reading()
        messages = await slow.next_messages(1_000)
        seqs = [int(message["message-id"].partition("-")[2]) for message in messages]
        assert seqs == list(range(1, 1_001))
        assert not slow.closed


async def test_a_slow_client_does_not_hold_up_others(server: RunningServer) -> None:
    async with connected(server.url, token=token("slow")) as slow, connected(server.url, token=token("fast")) as fast:
        await slow.subscribe("/user/queue/demo")
        await fast.subscribe("/user/queue/demo")
        await stop_reading(slow)
        await flood(server, "slow", 500)
        server.services.push("fast", b"quick")
        assert (await fast.next_message(within_s=5)).body == b"quick"
        await slow.abort_socket()


async def test_a_client_that_asks_for_receipts_and_takes_none_is_not_read_any_more(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await stop_reading(client)
        outbox = hosted(server).socket.outbox
        frames = b"".join(
            b"BEGIN\ntransaction:t\nreceipt:%b\n\n\0ABORT\ntransaction:t\n\n\0" % (b"r" * 900) for _ in range(40)
        )

        async def send() -> None:
            with suppress(ConnectionClosed):
                while True:
                    await client.send_raw(frames)

        sender = asyncio.create_task(send())
        await eventually(lambda: outbox.refuses_input and not is_read(server), within_s=5)
        pending = outbox.end_offset - outbox.written_bytes
        assert pending <= LIMITS.max_outbox_bytes + LIMITS.max_control_bytes + 2 * ONE_READ_BYTES
        sender.cancel()
        await client.abort_socket()


async def test_nothing_counts_as_written_once_the_client_has_begun_to_close(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        subscription = server.services.subscriptions[0]
        await stop_reading(client)
        await flood(server, "alice", 1_000)
        # A close frame; the socket cannot go before it has taken what waits.
        client.socket.transport.write(b"\x88\x82\0\0\0\0\x03\xe8")
        await eventually(lambda: subscription.ended, within_s=2)
        assert not server.services.left
        before = subscription.machine.position
        server.services.push("alice", b"late")
        hosted(server).outbox_drained()
        assert subscription.machine.position == before
        await client.abort_socket()


async def test_one_call_too_many_under_way_stops_the_reading_until_one_has_ended(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds: list[str] = []
    async with connected(server.url, token=token("alice")) as client:
        monkeypatch.setattr(WebSocketConnection, "hold_input", lambda _: holds.append("held"))
        monkeypatch.setattr(WebSocketConnection, "release_input", lambda _: holds.append("released"))
        services = server.services
        services.hold_calls = True
        for n in range(LIMITS.max_calls_in_flight + 1):
            await client.send("SUBSCRIBE", {"id": f"s{n}", "destination": "/user/queue/demo"})
            await client.send("UNSUBSCRIBE", {"id": f"s{n}"})
        await eventually(lambda: len(services.held_calls) == LIMITS.max_calls_in_flight, within_s=2)
        await client.has_been_read()
        assert len(services.held_calls) == LIMITS.max_calls_in_flight
        assert holds == ["held"]
        services.hold_calls = False
        for call in services.held_calls:
            call()
        await client.subscribe("/user/queue/demo", id="last")
        assert holds[:2] == ["held", "released"]


async def test_a_burst_of_small_frames_waits_for_the_calls_before_it_and_is_not_called_too_large(
    server: RunningServer,
) -> None:
    async with connected(server.url, token=token("alice")) as client:
        services = server.services
        services.hold_calls = True
        pairs = [
            f"SUBSCRIBE\nid:{n}\ndestination:/user/queue/demo\n\n\0UNSUBSCRIBE\nid:{n}\n\n\0".encode()
            for n in range(3_600)
        ]
        burst = b"".join(
            Frame(Opcode.TEXT, b"".join(pairs[start : start + 700])).serialize(mask=True)
            for start in range(0, 3_600, 700)
        )
        assert LIMITS.max_read_bytes - 30_000 < len(burst) <= LIMITS.max_read_bytes
        socket = services.clients[0].socket
        assert isinstance(socket, WebSocketConnection)
        socket.data_received(burst)  # as one read brings it
        assert len(services.held_calls) == LIMITS.max_calls_in_flight
        services.hold_calls = False
        for call in services.held_calls:
            call()
        await client.subscribe("/user/queue/demo", id="last")


async def test_a_client_that_is_refused_while_its_input_is_held_can_still_answer_the_close() -> None:
    async with running_server(Limits(close_timeout_s=60)) as server:
        server.services.grant = False
        client = await StompClient.open(server.url)
        await client.send("CONNECT", {"accept-version": "1.2", "Authorization": f"Bearer {token('alice')}"})
        await eventually(lambda: server.services.clients, within_s=2)
        hosted(server).fail(close_codes.UNAVAILABLE, "Redis: away")
        assert "Redis: away" in (await client.expect_error()).text
        await eventually(lambda: not server.server.connections, within_s=2)


async def test_a_client_that_is_told_to_go_and_only_pings_holds_no_more_for_that(server: RunningServer) -> None:
    async with connected(server.url, token=token("slow")) as slow:
        await slow.subscribe("/user/queue/demo")
        await stop_reading(slow)
        await flood(server, "slow", 1_000)
        (connection,) = server.server.connections
        hosted(server).refuse(close_codes.BAD_REQUEST)
        await asyncio.sleep(0)
        outbox = connection.outbox
        held = outbox.held_bytes
        for _ in range(20):
            connection.data_received(Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 1_000)
            await asyncio.sleep(0)
        assert held - 1_000 <= outbox.held_bytes <= held
        assert server.server.outboxes.held_bytes == outbox.held_bytes
        await slow.abort_socket()
