"""Who gets in: the rate of handshakes, the number of connections, and when those who were refused come again."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.stomp.frames import HeartBeat, Version
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_gateway.transport.admission import (
    DRAINING_RETRY_AFTER_S,
    FULL_RETRY_AFTER_S,
    HOLD_S,
    MAX_BURST,
    Admission,
    HandshakeRate,
    Refusal,
    RefusalCause,
    TokenBucket,
)
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.handshake import HandshakeResult
from pushcluster_gateway.transport.interfaces import SocketHandler
from pushcluster_gateway.transport.pending import PendingConnection
from pushcluster_gateway.transport.server import WebSocketServer
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.handshakes import REQUEST
from tests.support.stomp_client import StompClient, StompError, connected
from tests.support.waiting import eventually

PATIENT: Final = Limits(min_connect_s=60)
"""However slow the machine is, nobody gives way."""


def admission(max_connections: int = 10, handshakes_per_s: float = 0, random: float = 0.0) -> Admission:
    return Admission(max_connections=max_connections, handshakes_per_s=handshakes_per_s, now=0.0, random=lambda: random)


def test_a_request_that_is_not_a_handshake_is_refused_before_the_pod_counts_as_full() -> None:
    server = WebSocketServer(
        limits=Limits(),
        admission=admission(max_connections=0),
        allowed_origins=("https://ours.example",),
        metrics=Metrics(),
        clock=lambda: 0.0,
        handler_factory=failing_factory,
    )

    def status(without: str = "", **headers: str) -> int:
        lines = REQUEST.decode().split("\r\n")[1:-2]
        pairs = [line.split(": ") for line in lines if line != without]
        request = Request("/ws", Headers([*((name, value) for name, value in pairs), *headers.items()]))
        return server.answer_handshake(PendingConnection(server), server.new_handshake(), request).status_code

    assert [status(without="Upgrade: websocket"), status(Origin="https://evil.example")] == [426, 403]
    assert status() == 503


def failing_factory(_: WebSocketConnection, __: HandshakeResult) -> SocketHandler:
    raise RuntimeError("no handler")


def test_the_token_of_a_handshake_does_not_show() -> None:
    assert "secret" not in repr(HandshakeResult(None, "secret"))
    assert "secret" not in repr(Connect(Version.V1_2, HeartBeat(), "alice", "secret"))


class TestTokenBucket:
    def test_a_second_of_the_rate_comes_in_at_once_and_one_more_waits(self) -> None:
        bucket = TokenBucket(5, 0.0)
        assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
        assert bucket.wait_s(0.0) == pytest.approx(0.2)
        assert bucket.wait_s(0.15) == pytest.approx(0.05)
        assert (bucket.wait_s(0.2), bucket.take(0.2), bucket.take(0.2)) == (0.0, True, False)

    def test_at_a_high_rate_no_more_come_in_at_once_than_pushes_can_wait_for(self) -> None:
        bucket = TokenBucket(10 * MAX_BURST, 0.0)
        assert sum(bucket.take(0.0) for _ in range(MAX_BURST + 1)) == MAX_BURST
        assert sum(bucket.take(step / 1_000) for step in range(1_001)) == pytest.approx(10 * MAX_BURST, abs=1)

    def test_then_as_many_come_in_as_the_rate_says(self) -> None:
        bucket = TokenBucket(8, 0.0)
        assert sum(bucket.take(step / 64) for step in range(641)) == 8 + 80

    def test_a_long_pause_saves_up_no_more_than_a_second(self) -> None:
        bucket = TokenBucket(5, 0.0)
        assert [bucket.take(1_000.0) for _ in range(6)] == [True] * 5 + [False]

    def test_a_rate_below_one_still_lets_one_in(self) -> None:
        bucket = TokenBucket(0.5, 0.0)
        assert [bucket.take(now) for now in (0.0, 1.0, 2.0)] == [True, False, True]

    def test_what_is_given_back_can_be_taken_and_is_never_more_than_a_second_of_the_rate(self) -> None:
        bucket = TokenBucket(2, 0.0)
        bucket.give_back()
        assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
        bucket.give_back()
        assert [bucket.take(0.0) for _ in range(2)] == [True, False]

    def test_it_owes_no_more_than_a_second_of_the_rate(self) -> None:
        bucket = TokenBucket(4, 0.0)
        for _ in range(100):
            bucket.owe()
        assert bucket.wait_s(0.0) == pytest.approx(1.25)

    @given(st.lists(st.floats(0, 0.5), max_size=300), st.integers(1, 50))
    def test_in_no_time_more_come_in_than_the_burst_and_the_rate(self, pauses: list[float], per_s: int) -> None:
        bucket = TokenBucket(per_s, 0.0)
        now, let_in = 0.0, 0
        for pause in pauses:
            now += pause
            let_in += bucket.take(now)
        assert let_in <= per_s + per_s * now + 1e-6


class TestHandshakeRate:
    """The rate is 4 a second, and so 2 a second for those who are refused."""

    def accept_all(self, rate: HandshakeRate[str], now: float, prefix: str = "") -> list[str]:
        """Accept as many as may come now."""
        sockets: list[str] = []
        while not rate.wait_s(now):
            sockets.append(f"{prefix}{len(sockets)}")
            rate.accepted(sockets[-1], now)
        return sockets

    def test_who_is_authenticated_has_paid(self) -> None:
        rate: HandshakeRate[str] = HandshakeRate(4, 0.0)
        sockets = self.accept_all(rate, 0.0)
        assert len(sockets) == 4
        for each in sockets:
            rate.opened(each, f"connection {each}", 0.1)
            rate.authenticated(f"connection {each}")
            rate.refused(f"connection {each}", 0.2)
        assert rate.wait_s(0.2) == pytest.approx(0.05)

    def test_who_is_refused_pays_from_another_bucket_until_that_is_empty(self) -> None:
        rate: HandshakeRate[str] = HandshakeRate(4, 0.0)
        for each in self.accept_all(rate, 0.0):
            rate.refused(each, 0.0)
            rate.refused(each, 0.0)
        assert len(self.accept_all(rate, 0.0, "later")) == 2

    def test_who_is_refused_because_the_pod_is_full_has_paid(self) -> None:
        rate: HandshakeRate[str] = HandshakeRate(4, 0.0)
        for each in self.accept_all(rate, 0.0):
            rate.spent(each)
            rate.refused(each, 0.0)
        assert self.accept_all(rate, 0.0, "later") == []

    def test_who_says_nothing_holds_a_token_for_so_long_in_each_stage_and_not_longer(self) -> None:
        rate: HandshakeRate[str] = HandshakeRate(1, 0.0)
        rate.accepted("silent", 0.0)
        rate.expire(HOLD_S - 0.01)
        rate.opened("silent", "open", 0.5)
        rate.expire(0.5 + HOLD_S - 0.01)
        assert "open" in rate._held
        rate.expire(0.5 + HOLD_S)
        assert not rate._held

    def test_who_lost_its_token_pays_when_it_is_authenticated_after_all(self) -> None:
        rate: HandshakeRate[str] = HandshakeRate(4, 0.0)
        (first, *others) = self.accept_all(rate, 0.0)
        rate.refused(first, 0.0)
        for each in others:
            rate.spent(each)
        rate.opened(first, "connection", 0.0)
        rate.authenticated("connection")
        assert rate.wait_s(0.0) == pytest.approx(0.25)


class TestAdmission:
    def test_without_a_rate_only_the_number_of_connections_counts(self) -> None:
        gate = admission(max_connections=2)
        assert [gate.refuse(connections=n, draining=False) is None for n in (0, 1, 2)] == [True, True, False]

    def test_a_full_pod_spreads_those_whom_it_refuses(self) -> None:
        for random, seconds in ((0.0, FULL_RETRY_AFTER_S[0]), (0.999, FULL_RETRY_AFTER_S[1])):
            refusal = admission(random=random).refuse(connections=10, draining=False)
            assert refusal == Refusal(RefusalCause.FULL, "this gateway has its maximum number of connections", seconds)

    def test_a_pod_that_stops_takes_nobody_and_sends_them_elsewhere_soon(self) -> None:
        refusal = admission(random=0.999).refuse(connections=0, draining=True)
        assert refusal == Refusal(RefusalCause.DRAINING, "this gateway stops", DRAINING_RETRY_AFTER_S[1])


async def ask(port: int) -> tuple[int, int | None, asyncio.StreamWriter]:
    """Send a handshake; return its status, Retry-After, and the connection, which stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    retry_after = headers.get("Retry-After")
    return int(head.split()[1]), None if retry_after is None else int(retry_after), writer


class WaitingRoom:
    """Sockets that send their handshake at once, in this order."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.pairs: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def enter(self, count: int) -> None:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
            writer.write(REQUEST)
            self.pairs.append((reader, writer))

    async def status(self, number: int) -> int:
        async with asyncio.timeout(5):
            head = await self.pairs[number][0].readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    def answered(self) -> int:
        return sum(bool(reader._buffer) for reader, _ in self.pairs)  # type: ignore[attr-defined]

    def leave(self) -> None:
        for _, writer in self.pairs:
            writer.close()


@pytest.fixture
async def room() -> AsyncIterator[WaitingRoom]:
    """Of a server that takes 3 handshakes a second; its clock stands still."""
    async with running_server(handshakes_per_s=3, manual_clock=True) as server:
        room = WaitingRoom(server)
        yield room
        room.leave()


class TestWaitingRoom:
    async def test_handshakes_past_the_rate_wait_and_get_in_without_a_refusal(self, room: WaitingRoom) -> None:
        server = room._server
        await room.enter(8)
        assert [await room.status(n) for n in range(3)] == [101] * 3
        await eventually(lambda: server.server.waiting == 5, within_s=5)
        assert server.server.sockets == 3, "nothing was read from the others"
        await server.pass_time(1 / 3 + 0.01)
        assert await room.status(3) == 101
        await eventually(lambda: server.server.waiting == 4, within_s=5)
        for number in range(4, 8):
            await server.pass_time(1 / 3 + 0.01)
            assert await room.status(number) == 101
        assert server.services.metrics.admissions_refused == {}

    async def test_who_hung_up_while_it_waited_costs_no_token(self, room: WaitingRoom) -> None:
        server = room._server
        await room.enter(6)
        await eventually(lambda: server.server.waiting == 3, within_s=5)
        for number in (3, 4):
            room.pairs[number][1].transport.abort()
        await server.pass_time(1 / 3 + 0.01)
        assert await room.status(5) == 101
        assert server.services.metrics.handshakes_cut == {"gone": 2}

    async def test_who_waits_is_sent_elsewhere_at_once_when_the_pod_stops(self, room: WaitingRoom) -> None:
        server = room._server
        await room.enter(40)
        await eventually(lambda: server.server.waiting == 37, within_s=5)
        server.server.draining = True
        assert [await room.status(n) for n in range(3, 40)] == [503] * 37
        assert server.services.metrics.admissions_refused == {"draining": 37}

    async def test_who_waits_when_the_server_ends_is_cut(self, room: WaitingRoom) -> None:
        server = room._server
        await room.enter(5)
        await eventually(lambda: server.server.waiting == 2, within_s=5)
        await server.server.close()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await room.status(4)

    async def test_a_full_pod_refuses_no_faster_than_the_rate(self) -> None:
        async with running_server(PATIENT, handshakes_per_s=3, max_connections=1, manual_clock=True) as server:
            room = WaitingRoom(server)
            await room.enter(6)
            assert [await room.status(n) for n in range(3)] == [101, 503, 503]
            await eventually(lambda: server.server.waiting == 3, within_s=5)
            room.leave()

    async def test_connected_clients_are_served_while_others_wait(self) -> None:
        async with (
            running_server(handshakes_per_s=1, manual_clock=True) as server,
            connected(server.url, token=token("alice")) as alice,
        ):
            await alice.subscribe("/user/queue/demo")
            room = WaitingRoom(server)
            await room.enter(50)
            await eventually(lambda: server.server.waiting == 50, within_s=5)
            server.services.push("alice", b"quick")
            assert (await alice.next_message(within_s=5)).body == b"quick"
            room.leave()

    async def test_too_many_open_files_pause_and_end_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pushcluster_gateway.transport.listener.ERROR_PAUSE_S", 0.05)
        failing = [OSError(errno.EMFILE, "Too many open files")]
        async with running_server() as server:
            (listening,) = server.server._listener._sockets

            class Failing:
                def accept(self) -> object:
                    if failing:
                        raise failing.pop()
                    return listening.accept()

            server.server._listener._accept(cast(socket.socket, Failing()))
            assert not failing
            status, _, writer = await ask(server.port)
            assert status == 101
            writer.close()


class TestRefusedTokens:
    """A flood of wrong tokens, and a newcomer with a good one."""

    async def test_they_pay_from_a_bucket_of_their_own(self) -> None:
        async with running_server(handshakes_per_s=4, manual_clock=True) as server:
            for _ in range(6):
                with pytest.raises(StompError):
                    await StompClient.connect(server.url, token="wrong")
                await eventually(lambda: not server.server.sockets, within_s=5)
            waiting = asyncio.create_task(ask(server.port))
            await eventually(lambda: server.server.waiting == 1, within_s=5)
            await server.pass_time(0.3)
            status, _, writer = await waiting
            assert status == 101
            writer.close()


async def test_a_storm_of_more_sockets_than_connections_fills_every_slot_and_not_one_more() -> None:
    """All sockets are there before the first handshake: those that will be refused take nobody's place."""
    async with running_server(PATIENT, max_connections=20) as server:
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(60)]
        await eventually(lambda: server.server.sockets == 60, within_s=5)
        for _, writer in pairs:
            writer.write(REQUEST)
        heads = [await reader.readuntil(b"\r\n\r\n") for reader, _ in pairs]
        assert Counter(int(head.split()[1]) for head in heads) == {101: 20, 503: 40}
        assert server.services.metrics.admissions_refused == {"full": 40}
        pairs[heads.index(next(head for head in heads if b" 101 " in head))][1].close()
        await eventually(lambda: len(server.server.connections) == 19, within_s=5)
        status, _, writer = await ask(server.port)
        assert status == 101, "a place that is left is there for the next one"
        for _, each in [*pairs, (None, writer)]:
            each.close()


async def test_a_full_pod_refuses_before_it_reads_a_token() -> None:
    async with running_server(PATIENT, max_connections=1) as server:
        first = await StompClient.open(server.url)
        status, _, writer = await ask(server.port)
        assert status == 503
        assert not server.services.clients, "nobody was authenticated"
        writer.close()
        await first.close()


class TestOrigins:
    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            (b"https://app.example.com", 101),
            (b"https://app.example.com:8443", 101),
            (None, 101),
            (b"https://APP.example.com", 403),
            (b"https://app.example.com:443", 403),
            (b"https://app.example.com/", 403),
            (b"https://app.example.com.evil.org", 403),
            (b"https://evil.org?https://app.example.com", 403),
            (b"http://app.example.com", 403),
            (b"https://app.example.com:8444", 403),
            (b"https://sub.app.example.com", 403),
            (b"https://app.example.com https://evil.org", 403),
            (b"null", 403),
            (b"", 403),
            (b"https://app.example.com\r\nOrigin: https://evil.org", 400),
        ],
    )
    async def test_only_an_origin_that_is_listed_comes_in(self, origin: bytes | None, status: int) -> None:
        allowed = ("https://app.example.com", "https://app.example.com:8443")
        line = b"" if origin is None else b"Origin: " + origin + b"\r\n"
        async with running_server(allowed_origins=allowed) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(REQUEST.replace(b"Host: test\r\n", b"Host: test\r\n" + line))
            assert int((await reader.readline()).split()[1]) == status
            writer.close()

    async def test_without_a_list_every_origin_comes_in(self) -> None:
        async with running_server() as server:
            client = await StompClient.open(server.url, origin="null")
            await client.close()
