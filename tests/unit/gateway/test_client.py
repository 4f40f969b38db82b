"""One client over a real socket and services without Redis: what goes over the wire, when, and in how many pieces."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import jwt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_gateway import closes
from pushcluster_gateway.client import Client
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.websocket import WebSocketConnection
from tests.support.fake_services import JWT_KEY, RunningServer, running_server
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

LIMITS = Limits(
    close_timeout_s=2.0,
    max_outbox_bytes=20_000,
    max_outbox_messages=50,
    max_control_bytes=2_000,
    max_calls_in_flight=4,
    slow_consumer_s=0.5,
    server_heart_beat_ms=300,
    client_heart_beat_ms=200,
    heart_beat_grace=2.0,
    ping_interval_s=0.4,
)

ONE_READ_BYTES = 262_144
"""What asyncio and uvloop read from a socket at once."""


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS) as running:
        yield running


def token(user: str = "alice") -> str:
    return jwt.encode({"sub": user}, JWT_KEY, algorithm="HS256")


def hosted(server: RunningServer, number: int = 0) -> Client:
    return server.services.clients[number]


async def test_connected_tells_what_the_gateway_can_do(server: RunningServer) -> None:
    async with connected(server.url, token=token(), heart_beat=(1_000, 1_000)) as client:
        assert client.connected["heart-beat"] == "300,200"
        assert client.connected["server"] == "PushCluster/test"
    async with connected(server.url, token=token(), versions=("1.0",)) as client:
        assert client.connected["version"] == "1.0"
        assert client.connected["heart-beat"] == "0,0"


async def test_the_gateway_sends_heart_beats_when_they_were_agreed_on(server: RunningServer) -> None:
    async with connected(server.url, token=token(), heart_beat=(0, 100)) as client:
        await eventually(lambda: client.heart_beats >= 3, within_s=5)
    async with connected(server.url, token=token(), heart_beat=(0, 0)) as client:
        await asyncio.sleep(0.7)
        assert client.heart_beats == 0


async def test_pings_do_not_stand_in_for_heart_beats(server: RunningServer) -> None:
    async with connected(server.url, token=token(), heart_beat=(0, 100)) as client:
        async with asyncio.timeout(5):
            while client.heart_beats < 3:
                await client.socket.ping()
                await asyncio.sleep(0.05)


async def test_messages_stand_in_for_heart_beats(server: RunningServer) -> None:
    async with connected(server.url, token=token(), heart_beat=(0, 100)) as client:
        await client.subscribe("/user/queue/demo")
        for _ in range(12):
            server.services.push("alice", b"m")
            await asyncio.sleep(0.05)
        assert client.heart_beats == 0


async def test_a_client_that_promised_heart_beats_and_sends_none_is_closed(server: RunningServer) -> None:
    async with connected(server.url, token=token(), heart_beat=(100, 0)) as client:
        assert "no heart-beat" in (await client.expect_error()).text
        assert client.close_code == closes.NO_HEART_BEAT.code


async def test_heart_beats_of_the_client_keep_it(server: RunningServer) -> None:
    async with connected(server.url, token=token(), heart_beat=(100, 0)) as client:
        for _ in range(8):
            await client.send_raw("\n")
            await asyncio.sleep(0.1)
        assert not client.closed


async def test_a_client_without_heart_beats_is_kept_by_its_pongs(server: RunningServer) -> None:
    async with connected(server.url, token=token(), heart_beat=(0, 0)) as client:
        await asyncio.sleep(1.5)
        assert not client.closed


async def test_a_socket_that_answers_no_ping_is_closed(server: RunningServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await raw_connect(reader, writer)
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
    frame = f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token()}\n\n\0".encode()
    writer.write(b"\x82\xfe" + len(frame).to_bytes(2, "big") + b"\0\0\0\0" + frame)
    await reader.readuntil(b"CONNECTED")


async def test_a_burst_becomes_one_write(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
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
    async with connected(server.url, token=token()) as client:
        await client.subscribe("/user/queue/demo")
        for n in range(500):
            server.services.push("alice", b"%d" % n)
        messages = await client.next_messages(500)
        assert [message.body for message in messages] == [b"%d" % n for n in range(500)]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_receipts_come_for_every_kind_of_frame(server: RunningServer, version: str) -> None:
    async with connected(server.url, token=token(), versions=(version,)) as client:
        await client.subscribe("/user/queue/demo", ack="client")
        for _ in range(4):
            server.services.push("alice", b"m")
        first, second, third, fourth = await client.next_messages(4)
        await client.ack(first, receipt=True)
        await client.begin("t")
        await client.ack(second, transaction="t", receipt=True)
        await client.abort("t")
        await client.begin("t")
        await client.ack(third, transaction="t", receipt=True)
        await client.commit("t")
        if version != "1.0":
            await client.nack(fourth, receipt=True)
            assert server.services.rejected == [StreamId(1_000, 4)]
        await client.unsubscribe()
        await client.disconnect()
        assert client.close_code == 1000


async def test_a_receipt_is_escaped_like_any_header(server: RunningServer) -> None:
    for version, name in (("1.2", "a:b\\c\nd\re"), ("1.1", "a:b\\c\nd"), ("1.0", "a:b\\c")):
        async with connected(server.url, token=token(), versions=(version,)) as client:
            await client.send("BEGIN", {"transaction": "t", "receipt": name})
            assert (await client.wait_receipt(name)).headers == {"receipt-id": name}


class TestTransactions:
    async def test_acks_count_at_commit_and_after_abort_never(self, server: RunningServer) -> None:
        async with connected(server.url, token=token()) as client:
            await client.subscribe("/user/queue/demo", ack="client-individual")
            window = server.services.subscriptions[0].machine.window
            assert window is not None
            ids = [server.services.push("alice", b"m") for _ in range(2)]
            first, second = await client.next_messages(2)
            for end in (client.abort, client.commit):
                await client.begin("t")
                await client.ack(first, transaction="t", receipt=True)
                await client.ack(second, transaction="t", receipt=True)
                assert window.cursor < ids[0]
                await end("t")
            assert window.cursor == ids[1]

    async def test_the_receipt_of_a_commit_comes_when_every_refused_message_is_safe(
        self, server: RunningServer
    ) -> None:
        async with connected(server.url, token=token()) as client:
            await client.subscribe("/user/queue/demo", ack="client-individual", id="a")
            await client.subscribe("/user/topic/demo", ack="client-individual", id="b")
            server.services.push("alice", b"m")
            server.services.push("alice", b"m", Destination("topic", "demo"))
            server.services.hold_calls = True
            await client.begin("t")
            for message in await client.next_messages(2):
                await client.nack(message, transaction="t", receipt=True)
            await client.send("COMMIT", {"transaction": "t", "receipt": "c"})
            await client.begin("other")
            assert "c" not in client.receipts
            (call,) = server.services.held_calls
            call()
            await client.wait_receipt("c")
            assert server.services.rejected == [StreamId(1_000, 1), StreamId(1_000, 1)]

    async def test_a_commit_takes_effect_as_a_whole_or_not_at_all(self, server: RunningServer) -> None:
        async with connected(server.url, token=token()) as client:
            await client.subscribe("/user/queue/demo", ack="client-individual")
            window = server.services.subscriptions[0].machine.window
            assert window is not None
            message_id = server.services.push("alice", b"m")
            await client.begin("t")
            await client.ack(await client.next_message(), transaction="t")
            await client.send("NACK", {"id": "7/1-1", "transaction": "t"})
            await client.send("COMMIT", {"transaction": "t", "receipt": "c"})
            error = await client.expect_error()
            assert "NACK has header 'id' with value '7/1-1'" in error.text
            assert error["receipt-id"] == "c"
            assert window.cursor < message_id


async def test_the_receipt_of_disconnect_comes_when_everything_before_it_is_done(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
        await client.subscribe("/user/queue/demo", ack="client-individual")
        message_id = server.services.push("alice", b"m")
        server.services.hold_calls = True
        await client.nack(await client.next_message())
        await client.send("DISCONNECT", {"receipt": "bye"})
        await eventually(lambda: server.services.held_calls, within_s=2)
        subscription = server.services.subscriptions[0]
        assert "bye" not in client.receipts
        assert subscription.machine.window is not None
        server.services.held_calls[0]()
        await client.wait_receipt("bye")
        assert subscription.machine.window.cursor == message_id
        assert await client.wait_closed() == 1000


async def test_a_subscription_that_ends_before_it_is_ready_still_gets_its_receipt(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
        server.services.hold_calls = True
        await client.send("SUBSCRIBE", {"id": "a", "destination": "/user/queue/demo", "receipt": "subscribed"})
        await client.send("UNSUBSCRIBE", {"id": "a", "receipt": "unsubscribed"})
        await client.wait_receipt("unsubscribed")
        assert list(client.receipts) == ["subscribed", "unsubscribed"]
        server.services.hold_calls = False
        for call in server.services.held_calls:
            call()
        frames = "SUBSCRIBE\nid:b\ndestination:/user/queue/demo\nreceipt:again\n\n\0DISCONNECT\nreceipt:bye\n\n\0"
        await client.send_raw(frames)
        await client.wait_receipt("bye")
        assert list(client.receipts)[2:] == ["again", "bye"]


async def test_after_an_error_nothing_more_is_said_and_the_socket_is_closed(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
        await client.subscribe("/user/queue/demo")
        await client.send_raw("SEND\ndestination:/user/queue/demo\n\n\0BEGIN\ntransaction:t\nreceipt:late\n\n\0")
        await client.expect_error()
        server.services.push("alice", b"late")
        assert client.receipts.keys() == {"r1"}
        assert client.messages.empty()
        assert client.close_code == closes.SEND_REFUSED.code


async def test_frames_may_share_a_websocket_message_or_be_spread_over_many(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
        await client.send_raw(
            "\n\r\nBEGIN\ntransaction:t\nreceipt:1\n\n\0\n\nABORT\r\ntransaction:t\r\nreceipt:2\r\n\r\n\0\n"
        )
        for character in "BEGIN\ntransaction:u\nreceipt:3\n\n\0\n":
            await client.send_raw(character)
        for receipt in ("1", "2", "3"):
            await client.wait_receipt(receipt)


async def test_an_ack_that_comes_twice_or_late_is_no_error(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
        await client.subscribe("/user/queue/demo", ack="client")
        server.services.push("alice", b"1")
        message = await client.next_message()
        await client.ack(message, receipt=True)
        await client.ack(message, receipt=True)
        await client.unsubscribe()
        await client.ack(message, receipt=True)


async def test_the_cursor_moves_only_when_the_socket_has_taken_the_bytes(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
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
        await eventually(lambda: hosted(server).ended, within_s=5)
        slow.socket.transport.resume_reading()
        error = await slow.expect_error()
        assert error["message"] == closes.SLOW_CONSUMER.reason
        assert slow.close_code == closes.SLOW_CONSUMER.code == 4001


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
    async with connected(server.url, token=token()) as client:
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
        await eventually(lambda: outbox.refuses_input, within_s=5)
        await asyncio.sleep(0.2)
        pending = outbox.end_offset - outbox.written_bytes
        assert pending <= LIMITS.max_outbox_bytes + LIMITS.max_control_bytes + 2 * ONE_READ_BYTES
        sender.cancel()
        await client.abort_socket()


async def test_a_subscription_that_ended_gets_no_more(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
        await client.subscribe("/user/queue/demo")
        subscription = server.services.subscriptions[0]
        await client.unsubscribe()
        server.services.subscriptions.append(subscription)
        server.services.push("alice", b"late")
        await client.no_message(for_s=0.1)


async def test_nothing_counts_as_written_once_the_client_has_begun_to_close(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
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
        hosted(server).room_freed()
        assert subscription.machine.position == before
        await client.abort_socket()


async def test_a_client_that_leaves_leaves_the_services(server: RunningServer) -> None:
    for leave in (StompClient.disconnect, StompClient.close, StompClient.abort_socket):
        client = await StompClient.connect(server.url, token=token())
        await leave(client)
        await eventually(lambda: len(server.services.left) == len(server.services.clients), within_s=2)
    assert server.services.metrics.closes["client_disconnected"] == 2
    assert server.services.metrics.closes["connection_lost"] == 1


async def test_frames_sent_before_connected_wait_for_it(server: RunningServer) -> None:
    server.services.grant = False
    client = await StompClient.open(server.url)
    connect = f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token()}\n\n\0"
    await client.send_raw(connect + "SUBSCRIBE\nid:1\ndestination:/user/queue/demo\nreceipt:r\n\n\0")
    await eventually(lambda: server.services.clients, within_s=2)
    await asyncio.sleep(0.05)
    assert not server.services.subscriptions
    hosted(server).registered()
    assert (await client.next_answer()).command == "CONNECTED"
    await client.wait_receipt("r")
    await client.close()


async def test_one_call_too_many_under_way_stops_the_reading_until_one_has_ended(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds: list[str] = []
    async with connected(server.url, token=token()) as client:
        monkeypatch.setattr(WebSocketConnection, "hold_input", lambda _: holds.append("held"))
        monkeypatch.setattr(WebSocketConnection, "release_input", lambda _: holds.append("released"))
        services = server.services
        services.hold_calls = True
        for n in range(LIMITS.max_calls_in_flight + 1):
            await client.send("SUBSCRIBE", {"id": f"s{n}", "destination": "/user/queue/demo"})
            await client.send("UNSUBSCRIBE", {"id": f"s{n}"})
        await eventually(lambda: len(services.held_calls) == LIMITS.max_calls_in_flight, within_s=2)
        await asyncio.sleep(0.05)
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
    async with connected(server.url, token=token()) as client:
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
        await client.send("CONNECT", {"accept-version": "1.2", "Authorization": f"Bearer {token()}"})
        await eventually(lambda: server.services.clients, within_s=2)
        hosted(server).fail(closes.UNAVAILABLE, "Redis: away")
        assert "Redis: away" in (await client.expect_error()).text
        await eventually(lambda: not server.server.connections, within_s=2)


async def test_a_connection_whose_deadlines_cannot_be_checked_is_cut_and_the_others_are_still_checked(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check = WebSocketConnection.check_deadlines

    async with (
        connected(server.url, token=token()) as alice,
        connected(server.url, token=token("bob"), heart_beat=(0, 100)) as bob,
    ):
        broken = hosted(server).socket

        def fail_for_alice(connection: WebSocketConnection, now: float) -> None:
            if connection is broken:
                raise RuntimeError("a defect")
            check(connection, now)

        monkeypatch.setattr(WebSocketConnection, "check_deadlines", fail_for_alice)
        await eventually(lambda: alice.closed, within_s=5)
        assert "a connection's deadlines cannot be checked" in caplog.text
        beats = bob.heart_beats
        await eventually(lambda: bob.heart_beats >= beats + 3, within_s=5)
