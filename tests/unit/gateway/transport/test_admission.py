"""Who gets in: the rate of handshakes, the number of connections, and when those who were refused come again."""

import asyncio
from collections import Counter
from typing import Final

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
    MAX_RETRY_AFTER_S,
    Admission,
    HandshakeRate,
    Refusal,
    RefusalCause,
)
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.handshake import HandshakeResult
from pushcluster_gateway.transport.interfaces import SocketHandler
from pushcluster_gateway.transport.server import WebSocketServer
from tests.support.fake_services import running_server
from tests.support.handshakes import REQUEST
from tests.support.stomp_client import StompClient
from tests.support.waiting import eventually

PATIENT: Final = Limits(min_connect_s=60)
"""However slow the machine is, nobody gives way."""


def rate(per_s: float, random: float = 0.5) -> HandshakeRate:
    return HandshakeRate(per_s, 0.0, lambda: random)


def admission(max_connections: int = 10, handshakes_per_s: float = 0, random: float = 0.0) -> Admission:
    return Admission(max_connections=max_connections, handshakes_per_s=handshakes_per_s, now=0.0, random=lambda: random)


def test_a_request_that_is_not_a_handshake_does_not_use_up_the_rate() -> None:
    server = WebSocketServer(
        limits=Limits(),
        admission=admission(handshakes_per_s=1),
        allowed_origins=("https://ours.example",),
        metrics=Metrics(),
        clock=lambda: 0.0,
        handler_factory=failing_factory,
    )

    def status(without: str = "", **headers: str) -> int:
        lines = REQUEST.decode().split("\r\n")[1:-2]
        pairs = [line.split(": ") for line in lines if line != without]
        request = Request("/ws", Headers([*((name, value) for name, value in pairs), *headers.items()]))
        return server.answer_handshake(server.new_handshake(), request).status_code

    assert [status(without="Upgrade: websocket"), status(Origin="https://evil.example")] == [426, 403]
    assert [status(), status()] == [101, 503]


def failing_factory(_: WebSocketConnection, __: HandshakeResult) -> SocketHandler:
    raise RuntimeError("no handler")


def test_the_token_of_a_handshake_does_not_show() -> None:
    assert "secret" not in repr(HandshakeResult(None, "secret"))
    assert "secret" not in repr(Connect(Version.V1_2, HeartBeat(), "alice", "secret"))


class TestRate:
    def test_a_second_of_the_rate_comes_in_at_once_and_one_more_is_refused(self) -> None:
        limiter = rate(5)
        assert [limiter.take(0.0) for _ in range(5)] == [0.0] * 5
        assert limiter.take(0.0) > 0

    def test_then_as_many_come_in_as_the_rate_says(self) -> None:
        limiter = rate(8)
        let_in = [limiter.take(step / 64) == 0.0 for step in range(641)]
        assert sum(let_in) == 8 + 80

    def test_a_long_pause_saves_up_no_more_than_a_second(self) -> None:
        limiter = rate(5)
        assert [limiter.take(1_000.0) == 0.0 for _ in range(6)] == [True] * 5 + [False]

    def test_a_rate_below_one_still_lets_one_in(self) -> None:
        limiter = rate(0.5)
        assert [limiter.take(now) == 0.0 for now in (0.0, 1.0, 2.0)] == [True, False, True]

    def test_who_is_refused_is_promised_slots_one_after_the_other(self) -> None:
        limiter = rate(100)
        waits = [wait for wait in (limiter.take(0.0) for _ in range(1_000)) if wait]
        assert waits == sorted(waits)
        a_second = Counter(int(wait) for wait in waits)
        assert max(a_second.values()) <= 101, "no second is promised more than the rate"
        assert len(a_second) >= 9

    def test_promises_end_at_the_longest_wait_and_are_spread_over_it_from_there(self) -> None:
        limiter = rate(1, random=0.25)
        waits = [limiter.take(0.0) for _ in range(MAX_RETRY_AFTER_S + 10)]
        assert max(waits) <= MAX_RETRY_AFTER_S
        assert waits[-1] == 0.25 * MAX_RETRY_AFTER_S

    def test_promises_are_forgotten_as_their_time_passes(self) -> None:
        limiter = rate(10)
        for _ in range(100):
            limiter.take(0.0)
        for _ in range(10):
            limiter.take(100.0)
        assert 0 < limiter.take(100.0) < 0.2

    @given(st.lists(st.floats(0, 0.5), max_size=300), st.integers(1, 50))
    def test_in_no_time_more_come_in_than_the_burst_and_the_rate(self, pauses: list[float], per_s: int) -> None:
        limiter = rate(per_s)
        now, let_in = 0.0, 0
        for pause in pauses:
            now += pause
            wait = limiter.take(now)
            assert 0.0 <= wait <= MAX_RETRY_AFTER_S
            let_in += wait == 0.0
        assert let_in <= per_s + per_s * now + 1e-6


class TestAdmission:
    def test_without_a_rate_only_the_number_of_connections_counts(self) -> None:
        gate = admission(max_connections=2)
        assert [gate.refuse(0.0, connections=n, draining=False) is None for n in (0, 1, 2)] == [True, True, False]

    def test_a_full_pod_spreads_those_whom_it_refuses(self) -> None:
        for random, seconds in ((0.0, FULL_RETRY_AFTER_S[0]), (0.999, FULL_RETRY_AFTER_S[1])):
            refusal = admission(random=random).refuse(0.0, connections=10, draining=False)
            assert refusal == Refusal(RefusalCause.FULL, "this gateway has its maximum number of connections", seconds)

    def test_a_pod_that_stops_takes_nobody_and_sends_them_elsewhere_soon(self) -> None:
        refusal = admission(random=0.999).refuse(0.0, connections=0, draining=True)
        assert refusal == Refusal(RefusalCause.DRAINING, "this gateway stops", DRAINING_RETRY_AFTER_S[1])

    def test_who_is_refused_for_another_reason_takes_nothing_of_the_rate(self) -> None:
        gate = admission(handshakes_per_s=1)
        gate.refuse(0.0, connections=10, draining=False)
        gate.refuse(0.0, connections=0, draining=True)
        assert gate.refuse(0.0, connections=0, draining=False) is None

    def test_the_rates_refusal_is_in_whole_seconds_and_never_zero(self) -> None:
        gate = admission(handshakes_per_s=1_000)
        answers = [gate.refuse(0.0, connections=0, draining=False) for _ in range(3_000)]
        refusals = [answer for answer in answers if answer is not None]
        assert len(refusals) == 2_000
        assert {refusal.cause for refusal in refusals} == {RefusalCause.RATE}
        assert {refusal.retry_after_s for refusal in refusals} == {1, 2}


async def ask(port: int) -> tuple[int, int | None, asyncio.StreamWriter]:
    """Send a handshake; return its status, Retry-After, and the connection, which stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    retry_after = headers.get("Retry-After")
    return int(head.split()[1]), None if retry_after is None else int(retry_after), writer


async def test_one_handshake_more_than_the_rate_gets_503_and_a_time_to_come_again() -> None:
    async with running_server(handshakes_per_s=3) as server:
        answers = [await ask(server.port) for _ in range(4)]
        assert [status for status, _, _ in answers] == [101, 101, 101, 503]
        assert answers[3][1] == 1
        assert server.services.metrics.admissions_refused == {"rate": 1}
        for _, _, writer in answers:
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
