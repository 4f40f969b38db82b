"""Bad input ends as an ERROR with a reason and a close; the server stays up."""

import asyncio
import time
from collections.abc import AsyncIterator

import jwt
import pytest

from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.server import WHEEL_TICK_S
from tests.support.fake_services import JWT_KEY, RunningServer, running_server
from tests.support.handshakes import REQUEST
from tests.support.stomp_client import StompClient, StompError, connected
from tests.support.waiting import eventually

LIMITS = Limits(
    max_frame_bytes=4_000,
    max_head_bytes=1_000,
    max_headers=10,
    max_subscriptions=2,
    max_subscription_id_chars=10,
    max_transactions=1,
    max_transaction_frames=1,
)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS, max_connections=3, manual_clock=True) as running:
        yield running
        async with connected(running.url, token=token()) as client:
            assert client.user_name == "alice", "the server is still up"


def token(key: str = JWT_KEY, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"sub": "alice", **claims}, key, algorithm=algorithm)


async def refused(server: RunningServer, *sent: bytes, close: Close, says: str, session: bool = True) -> None:
    """Send bytes; the answer must be an ERROR and this close."""
    client = await (StompClient.connect(server.url, token=token()) if session else StompClient.open(server.url))
    try:
        for data in sent:
            await client.send_raw(data)
        error = await client.expect_error()
        assert says in error.text
        assert error["message"] == close.reason
        assert error["content-type"] == "text/plain"
        assert client.close_code == close.code
        await eventually(lambda: server.services.metrics.closes[close.name] == 1, within_s=2)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("data", "close", "says"),
    [
        (b"garbage\0", close_codes.BAD_FRAME, "NUL before"),
        (b"\x00\xff\xfe", close_codes.BAD_FRAME, "NUL before"),
        (b"CONNECT\nno colon\n\n\0", close_codes.BAD_FRAME, "header line"),
        (b"\xff\xfe\n\n\0", close_codes.BAD_FRAME, "UTF-8"),
        (b"SUBSCRIBE\nid:1\n\n\0", close_codes.BAD_REQUEST, "first frame must be CONNECT"),
        (b"PUT\n\n\0", close_codes.BAD_REQUEST, "first frame must be CONNECT"),
        (b"x" * 1_003, close_codes.TOO_LARGE, "command with its headers has more than 1000 bytes"),
        (b"CONNECT\n" + b"a:b\n" * 11 + b"\n\0", close_codes.BAD_FRAME, "more than 10 headers"),
        (b"CONNECT\naccept-version:3.0\n\n\0", close_codes.UNSUPPORTED_VERSION, "supported are 1.0,1.1,1.2"),
        (b"CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0", close_codes.BAD_REQUEST, "heart-beat"),
        (b"CONNECT\naccept-version:1.2\n\n\0", close_codes.NOT_AUTHENTICATED, "no token"),
    ],
)
async def test_before_connect(server: RunningServer, data: bytes, close: Close, says: str) -> None:
    await refused(server, data, close=close, says=says, session=False)


SUBSCRIBE = b"SUBSCRIBE\nid:%d\ndestination:/user/queue/demo\n\n\0"


@pytest.mark.parametrize(
    ("sent", "close", "says"),
    [
        ([b"SEND\ndestination:/user/queue/demo\n\nhello\0"], close_codes.SEND_REFUSED, "only pushes"),
        ([b"FOO\n\n\0"], close_codes.BAD_REQUEST, "no such frame"),
        ([b"CONNECT\n\n\0"], close_codes.BAD_REQUEST, "already connected"),
        ([b"ACK\nid:a\\tb\n\n\0"], close_codes.BAD_FRAME, "undefined escape"),
        ([b"SEND\ncontent-length:4001\n\n"], close_codes.TOO_LARGE, "body has more than 4000 bytes"),
        ([b"SEND\n\n" + b"x" * 3_000, b"x" * 1_001], close_codes.TOO_LARGE, "body has more than 4000 bytes"),
        ([b"x" * 4_001], close_codes.TOO_LARGE, "frame too large: a WebSocket message has at most 4000 bytes"),
        ([SUBSCRIBE % 1, SUBSCRIBE % 2, SUBSCRIBE % 3], close_codes.LIMIT_EXCEEDED, "more than 2 subscriptions"),
        ([SUBSCRIBE % 1, SUBSCRIBE % 1], close_codes.BAD_REQUEST, "already has a subscription with this id"),
        ([SUBSCRIBE % 12_345_678_901], close_codes.BAD_REQUEST, "more than 10 characters"),
        ([b"SUBSCRIBE\nid:1\ndestination:/user/queue/a.b\n\n\0"], close_codes.BAD_DESTINATION, "/user/queue/a.b"),
        ([b"SUBSCRIBE\nid:1\ndestination:/user/queue/*\n\n\0"], close_codes.BAD_DESTINATION, "/user/queue/*"),
        ([b"SUBSCRIBE\nid:1\ndestination:/user/queue/#\n\n\0"], close_codes.BAD_DESTINATION, "/user/queue/#"),
        ([b"SUBSCRIBE\nid:1\ndestination:/user/bob/queue/a\n\n\0"], close_codes.BAD_DESTINATION, "/user/bob"),
        ([b"SUBSCRIBE\nid:1\ndestination:/topic/a-userxyz\n\n\0"], close_codes.BAD_DESTINATION, "only a user's own"),
        ([b"SUBSCRIBE\nid:1\ndestination:/user/queue/demo\nack:x\n\n\0"], close_codes.BAD_REQUEST, "ack"),
        ([b"UNSUBSCRIBE\nid:7\n\n\0"], close_codes.BAD_REQUEST, "no such subscription"),
        ([b"ACK\nid:9/1-1\n\n\0"], close_codes.BAD_REQUEST, "not the `ack` header"),
        ([b"COMMIT\ntransaction:t\n\n\0"], close_codes.BAD_REQUEST, "no transaction with this name"),
        (
            [b"BEGIN\ntransaction:t\n\n\0", b"BEGIN\ntransaction:u\n\n\0"],
            close_codes.LIMIT_EXCEEDED,
            "1 open transactions",
        ),
        (
            [b"BEGIN\ntransaction:t\n\n\0", *[b"ACK\nid:1/1-1\ntransaction:t\n\n\0"] * 2],
            close_codes.LIMIT_EXCEEDED,
            "1 frames in open transactions",
        ),
    ],
)
async def test_after_connect(server: RunningServer, sent: list[bytes], close: Close, says: str) -> None:
    await refused(server, *sent, close=close, says=says)


async def test_the_error_names_the_receipt_of_the_frame_that_caused_it(server: RunningServer) -> None:
    async with connected(server.url, token=token()) as client:
        await client.send("SUBSCRIBE", {"id": "1", "destination": "/queue/x", "receipt": "r1"})
        assert (await client.expect_error())["receipt-id"] == "r1"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("nonsense", "cannot be read"),
        (token(key="another key that is long enough, too"), "signature"),
        (jwt.encode({"sub": "alice"}, "", algorithm="none"), "HS256"),
        (token(key=JWT_KEY + "x" * 64, algorithm="HS512"), "HS256"),
        (token(exp=int(time.time()) - 60), "expired"),
        (token(nbf=int(time.time()) + 86_400), "not valid yet"),  # a whole run may pass before it is sent
        (token(exp="soon"), "'exp' is not a number"),
        (token(sub=5), "no text in its claim 'sub'"),
        (token(sub=""), "user id has 0 bytes"),
        (token(sub="x" * 256), "user id has 256 bytes"),
        (token(sub="a\nb"), "control"),
    ],
)
async def test_a_token_that_proves_nothing_is_refused(server: RunningServer, bad: str, says: str) -> None:
    with pytest.raises(StompError, match=says) as caught:
        await StompClient.connect(server.url, token=bad)
    assert caught.value.frame is not None
    assert caught.value.frame["message"] == close_codes.NOT_AUTHENTICATED.reason


async def test_a_client_whose_token_is_not_valid_yet_is_told_when_to_come_again(server: RunningServer) -> None:
    with pytest.raises(StompError, match="not valid yet") as caught:
        await StompClient.connect(server.url, token=token(nbf=int(time.time()) + 3_600))
    assert caught.value.frame is not None
    assert 3_000_000 < int(caught.value.frame["retry-after-ms"]) <= 3_600_000


async def test_a_token_may_come_with_the_handshake(server: RunningServer) -> None:
    client = await StompClient.open(server.url, headers={"Authorization": f"Bearer {token()}"})
    await client.send("CONNECT", {"accept-version": "1.2"})
    assert (await client.next_answer())["user-name"] == "alice"
    await client.close()
    async with connected(f"{server.url}?access_token={token()}") as other:
        assert other.user_name == "alice"


async def test_connects_own_token_goes_before_the_handshakes(server: RunningServer) -> None:
    async with connected(f"{server.url}?access_token={token(sub='mallory')}", token=token()) as client:
        assert client.user_name == "alice"


async def test_a_token_that_expires_ends_the_connection_with_a_reason(server: RunningServer) -> None:
    async with connected(server.url, token=token(exp=time.time() + 600)) as client:
        await server.pass_time(580)
        await client.has_been_read()
        await server.pass_time(20 + WHEEL_TICK_S)
        assert "token expired: connect again with a new token" in (await client.expect_error()).text
        assert client.close_code == close_codes.TOKEN_EXPIRED.code


async def test_a_client_that_never_connects_is_closed(server: RunningServer) -> None:
    client = await StompClient.open(server.url)
    await server.pass_time(LIMITS.connect_timeout_s - WHEEL_TICK_S)
    await client.has_been_read()
    await server.pass_time(2 * WHEEL_TICK_S)
    assert "no CONNECT frame" in (await client.expect_error()).text
    assert client.close_code == close_codes.CONNECT_TIMEOUT.code


async def test_a_connect_that_nobody_decides_is_answered_with_come_again() -> None:
    async with running_server(LIMITS, manual_clock=True) as server:
        asked: list[object] = []
        server.services.authenticate = lambda *asks: asked.append(asks)  # type: ignore[method-assign]
        client = await StompClient.open(server.url)
        await client.send_raw(f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token()}\n\n\0".encode())
        await eventually(lambda: asked, within_s=5)
        await server.pass_time(LIMITS.connect_timeout_s + WHEEL_TICK_S)
        error = await client.expect_error()
        assert error["message"] == close_codes.UNAVAILABLE.reason
        assert int(error["retry-after-ms"]) > 0
        assert client.close_code == close_codes.UNAVAILABLE.code


async def test_what_a_client_sends_before_connected_is_not_read_until_then(server: RunningServer) -> None:
    server.services.grant = False
    client = await StompClient.open(server.url)
    connect = f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token()}\n\n\0".encode()
    await client.send_raw(connect + b"\n" * 2_000)
    await eventually(lambda: server.services.clients, within_s=2)
    (connection,) = server.server.connections
    assert not connection._transport.is_reading()
    await client.send_raw(SUBSCRIBE % 1)
    server.services.clients[0].registered()
    assert (await client.next_answer()).command == "CONNECTED"
    await eventually(lambda: server.services.subscriptions, within_s=2)
    server.services.grant = True
    await client.close()


ONE_READ_BYTES = 262_144
"""What asyncio and uvloop read from a socket at once."""


class TestWebSocket:
    async def test_text_that_is_not_utf8_is_refused_even_across_fragments(self, server: RunningServer) -> None:
        for pieces in ([b"\xff"], [b"a\xc3", b"b"], [b"a\xc3"]):
            client = await StompClient.open(server.url)
            await client.socket.send(iter(pieces), text=True)
            assert await client.wait_closed() == 1007

    async def test_utf8_may_be_split_across_fragments(self, server: RunningServer) -> None:
        frame = f"CONNECT\naccept-version:1.2\nx:é\nAuthorization:Bearer {token()}\n\n\0".encode()
        cut = frame.index("é".encode()) + 1
        client = await StompClient.open(server.url)
        await client.socket.send(iter([frame[:cut], frame[cut:]]), text=True)
        assert (await client.next_answer())["user-name"] == "alice"
        await client.close()

    async def test_binary_messages_are_read_too(self, server: RunningServer) -> None:
        client = await StompClient.open(server.url)
        await client.socket.send(f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token()}\n\n\0".encode())
        assert (await client.next_answer())["user-name"] == "alice"
        await client.close()

    async def test_a_message_in_many_fragments_has_the_same_limit(self, server: RunningServer) -> None:
        client = await StompClient.open(server.url)
        await client.socket.send(iter([b"\n" * 1_000] * 5))
        assert "too large" in (await client.expect_error()).text
        assert client.close_code == 1009

    async def test_an_unmasked_frame_is_refused(self, server: RunningServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\x01a")
        assert (await reader.read())[:1] == b"\x88", "a close frame"
        writer.close()
        await eventually(lambda: server.services.metrics.closes["websocket_error"] == 1, within_s=2)

    async def test_frames_sent_before_the_handshakes_answer_cut_the_connection_when_they_are_bad(
        self, server: RunningServer
    ) -> None:
        answer = await server.http(REQUEST + b"\x81\x01a")
        assert answer.startswith(b"HTTP/1.1 101")

    async def test_a_connection_whose_deadlines_fail_ends_alone(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        check = WebSocketConnection.check_deadlines
        failed: list[WebSocketConnection] = []

        def fail_once(connection: WebSocketConnection, now: float) -> None:
            if not failed:
                failed.append(connection)
                raise RuntimeError("broken on purpose")
            check(connection, now)

        monkeypatch.setattr(WebSocketConnection, "check_deadlines", fail_once)
        broken = await StompClient.open(server.url)
        await server.pass_time(LIMITS.connect_timeout_s + WHEEL_TICK_S)
        await broken.wait_closed()
        silent = await StompClient.open(server.url)
        await server.pass_time(LIMITS.connect_timeout_s + WHEEL_TICK_S)
        assert "no CONNECT frame" in (await silent.expect_error()).text

    async def test_a_flood_of_pings_is_not_read_while_its_answers_are_not_taken(self) -> None:
        ping = (b"\x89\xfd" + bytes(4) + b"x" * 125) * 1_000
        limits = Limits(connect_timeout_s=600, slow_consumer_s=600, max_unauthenticated_bytes=1 << 30)
        async with running_server(limits) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(REQUEST)

            async def flood() -> None:
                while True:
                    writer.write(ping)
                    await writer.drain()

            flooding = asyncio.create_task(flood())
            await eventually(lambda: server.server.connections, within_s=5)
            (connection,) = server.server.connections
            outbox = connection.outbox
            await eventually(lambda: outbox.refuses_input, within_s=30)
            bound = Limits().max_outbox_bytes + Limits().max_control_bytes + 2 * ONE_READ_BYTES
            await eventually(lambda: not connection._transport.is_reading(), within_s=5)
            assert outbox.held_bytes < bound
            flooding.cancel()
            writer.transport.abort()

    async def test_a_client_that_does_not_answer_the_close_is_cut(self, server: RunningServer) -> None:
        answering = asyncio.create_task(server.http(REQUEST))
        await eventually(lambda: server.server.connections, within_s=5)
        await server.pass_time(LIMITS.connect_timeout_s + LIMITS.close_timeout_s - WHEEL_TICK_S)
        assert server.server.connections
        await server.pass_time(3 * WHEEL_TICK_S)
        assert b"no CONNECT frame" in await answering
