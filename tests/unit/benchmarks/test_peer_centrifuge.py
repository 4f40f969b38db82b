"""The table that compares with Centrifuge, and the bytes that its clients and publisher send and read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from benchmarks.centrifuge_clients import CentrifugeClient
from benchmarks.centrifuge_nodes import SOURCES, parse_version
from benchmarks.centrifuge_protocol import (
    CONNECT_ID,
    SUBSCRIBE_ID,
    Reply,
    check_accepted,
    encode_connect,
    encode_subscribe,
    parse_replies,
    wants_pongs,
)
from benchmarks.http_publisher import HttpPublisher, encode_batch, encode_body, encode_head, split_answer
from benchmarks.measure import Latencies
from benchmarks.peer_idle import check_alive
from benchmarks.peer_report import (
    Idle,
    Load,
    Maximum,
    Parts,
    Result,
    Round,
    Steady,
    build_idle,
    build_parts,
    build_section,
    build_stalls,
    build_table,
)
from benchmarks.stomp_clients import HEART_BEAT, RawClient, build_frames, encode_stamp, masked_text, split_stamps
from tests.support.waiting import eventually

QUIET = Steady(cpu_us=4_240.0, p50_ms=6.5, p99_ms=12.0, max_ms=14.0)
HALF = Steady(cpu_us=200.0, p50_ms=25.0, p99_ms=81.0, max_ms=90.0)
EVERYDAY = Steady(cpu_us=1_240.0, p50_ms=5.0, p99_ms=9.0, max_ms=11.0)
PARTS = Parts(quorum_ms=2.3, append_ms=1.0, transient_ms=0.7)
IDLE = [Idle("ours", own=6.0, everything=9.0), Idle("Centrifuge", own=4.0, everything=4.5)]


def frame(text: bytes) -> bytes:
    return Frame(Opcode.TEXT, text).serialize(mask=False)


# The table


def test_a_line_has_every_figure_in_the_column_that_names_it() -> None:
    table = build_table(
        [Result("ours", Maximum(3_500.0, 6_900.0), EVERYDAY, QUIET, HALF)], {"ours": 3_891.2, "theirs": 1.0}
    )
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "": "ours",
        "deliveries / CPU-s of all": 6_900.0,
        "max msg/s": 3_500.0,
        "µs of CPU a message at 1,000/s": 1_240.0,
        "µs of CPU a message at 100/s": 4_240.0,
        "p50 ms at 100/s": 6.5,
        "p99 ms at 100/s": 12.0,
        "p50 ms at half of the maximum": 25.0,
        "p99 ms at half of the maximum": 81.0,
        "KB a session": 3.8,
    }


def test_what_was_not_measured_is_a_dash_and_zero_is_a_figure() -> None:
    (row,) = build_table([Result("ours over HTTP", quiet=QUIET)], {"ours over HTTP": 0.0}).rows
    assert row == ["ours over HTTP", "-", "-", "-", 4_240.0, 6.5, 12.0, "-", "-", 0.0]


def test_a_rate_has_the_medians_of_its_rounds() -> None:
    rounds = [
        Round(100, cpu_s, Latencies(100, p50, p99, largest))
        for cpu_s, p50, p99, largest in ((0.9, 1, 9, 30), (0.1, 3, 7, 10), (0.2, 2, 8, 20))
    ]
    found = Steady.of(rounds)
    assert found.cpu_us == pytest.approx(2_000)
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (2, 8, 20)


def test_a_way_is_compared_with_the_sum_of_what_it_has_to_pass() -> None:
    results = [Result("ours", quiet=QUIET), Result("in batches", Maximum(1.0, 1.0))]
    table = build_parts(results, PARTS)
    assert [(name, p50_ms) for name, p50_ms, _ in table.rows[-2:]] == [("sum of these", 4.0), ("ours", 6.5)]
    assert [ratio for *_, ratio in table.rows] == pytest.approx([2.3 / 4, 1 / 4, 0.7 / 4, 1, 6.5 / 4])


def test_the_version_is_the_one_that_is_compiled() -> None:
    assert parse_version("module m\n\nrequire github.com/centrifugal/centrifuge v1.2.3\n") == "v1.2.3"
    assert parse_version((SOURCES / "go.mod").read_text()).startswith("v")


def test_the_section_says_how_long_it_measured() -> None:
    load = Load(rounds=9, sessions=4_321, beating_sessions=5_432, watch_rounds=7, idle_s=41.0, stall_s=42.0)
    text = build_section([Result("ours", quiet=QUIET)], {}, PARTS, IDLE, load, version="v1.2.3").render()
    assert "medians (rounds: 9)" in text
    assert "4,321 idle sessions" in text
    assert "Centrifuge v1.2.3" in text
    assert "42 s at 500/s (rounds: 7; medians" in text
    assert "with 5,432 idle sessions" in text
    assert "taken for 41 s (rounds: 7)" in text


@pytest.mark.parametrize(("ours_ms", "reached"), [(100.0, True), (100.1, False)])
def test_the_aim_is_about_the_largest_latency_of_our_lines(ours_ms: float, reached: bool) -> None:
    results = [
        Result("mode A", stall=replace(QUIET, max_ms=ours_ms), aimed=True),
        Result("Centrifuge", stall=replace(QUIET, max_ms=900.0)),
    ]
    section = build_section(results, {}, PARTS, IDLE, Load(stall_s=60.0), version="v1.2.3")
    assert section.reached is reached
    assert section.aim == "mode A: at 500 messages a second for 60 s, the largest latency is at most 100 ms"


def test_stalls_stand_beside_each_other_for_every_line_that_was_looked_at() -> None:
    table = build_stalls([Result("ours", stall=QUIET), Result("over HTTP"), Result("peer", stall=HALF)], Load())
    assert table.rows == [("ours", 6.5, 12.0, 14.0), ("peer", 25.0, 81.0, 90.0)]


def test_idle_sessions_are_compared_with_those_of_the_peer() -> None:
    table = build_idle(IDLE, Load(beating_sessions=5_432))
    assert table.columns[0] == "5,432 sessions, heart-beats every 10 s"
    assert table.rows == [("ours", 6.0, 1.5, 9.0), ("Centrifuge", 4.0, 1.0, 4.5)]


# Idle sessions


def test_a_round_counts_only_if_every_client_is_there_and_hears_heart_beats() -> None:
    load = Load(beating_sessions=100, idle_s=60.0)
    check_alive(0, 100 * 6 * 3, load)
    with pytest.raises(RuntimeError, match="1 of 100 idle clients"):
        check_alive(1, 100 * 6 * 3, load)
    with pytest.raises(RuntimeError, match="899 bytes of heart-beats"):
        check_alive(0, 899, load)


class Transport(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data


def receive(client: RawClient, data: bytes) -> None:
    client.get_buffer(len(data))[: len(data)] = data
    client.buffer_updated(len(data))


def test_a_client_of_centrifuge_answers_each_ping_once_if_it_is_asked_to() -> None:
    client, transport = CentrifugeClient(), Transport()
    client.connection_made(transport)
    receive(client, frame(b"{}"))
    assert transport.written == b""
    client.answers_pings = True
    for data in (frame(b"{}"), frame(b'{"push":{}}\n{}'), frame(b'{"push":{}}'), frame(b"{}")[:3], frame(b"{}")[3:]):
        receive(client, data)
    assert transport.written == 3 * masked_text(b"{}")


@pytest.mark.parametrize(
    ("reply", "expected"), [(b'{"client":"c","ping":10,"pong":true}', True), (b'{"client":"c"}', False)]
)
def test_the_reply_to_connect_says_whether_pings_are_answered(reply: bytes, expected: bool) -> None:
    replies, _ = parse_replies(frame(b'{"id":1,"connect":%s}' % reply))
    assert wants_pongs(replies) is expected
    assert not wants_pongs(parse_replies(frame(b'{"id":2,"subscribe":{"pong":true}}'))[0])


async def test_a_stomp_client_sends_heart_beats_until_its_connection_is_lost() -> None:
    client, transport = RawClient(), Transport()
    client.connection_made(transport)
    client.repeat(HEART_BEAT, 0.001)
    assert transport.written == b""
    await eventually(lambda: transport.written.startswith(3 * HEART_BEAT), within_s=5)
    client.connection_lost(None)
    written = transport.written
    client.send(HEART_BEAT)
    assert transport.written == written


@pytest.mark.parametrize(("every_s", "header"), [(0, b"\nheart-beat:0,0\n"), (10, b"\nheart-beat:10000,10000\n")])
def test_a_stomp_client_offers_the_heart_beats_that_it_sends(every_s: int, header: bytes) -> None:
    connect, _ = build_frames("ann", "gateway", "/", every_s)
    assert header in connect


# Centrifuge's JSON protocol


def test_commands_are_json_with_the_ids_that_replies_are_found_by() -> None:
    assert json.loads(encode_connect()) == {"id": CONNECT_ID, "connect": {"name": "benchmark"}}
    assert json.loads(encode_subscribe("ann")) == {"id": SUBSCRIBE_ID, "subscribe": {"channel": "user#ann"}}


@given(st.lists(st.integers(1, 70_000), max_size=5), st.lists(st.integers(0, 100_000), max_size=6))
def test_replies_are_found_however_the_bytes_are_split(sizes: list[int], cuts: list[int]) -> None:
    data = b"".join(frame(b'{"id":%d,"rpc":{"data":"%s"}}' % (n, b"x" * size)) for n, size in enumerate(sizes))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found: list[Reply] = []
    held = b""
    for begin, end in pairwise(edges):
        new, held = parse_replies(held + data[begin:end])
        found += new
    assert held == b""
    assert [(reply.id, reply.kind, len(reply.content["data"])) for reply in found] == [
        (n, "rpc", size) for n, size in enumerate(sizes)
    ]


def test_one_frame_has_a_reply_a_push_and_a_ping() -> None:
    data = frame(b'{"id":1,"connect":{"client":"c"}}\n{"push":{"channel":"user#ann","pub":{"data":1}}}\n{}')
    assert parse_replies(data + b"\x81") == (
        [
            Reply(1, "connect", {"client": "c"}),
            Reply(0, "push", {"channel": "user#ann", "pub": {"data": 1}}),
            Reply(0, "", None),
        ],
        b"\x81",
    )


def test_bytes_that_are_not_of_the_protocol_are_an_error() -> None:
    for data in (Frame(Opcode.CLOSE, b"").serialize(mask=False), frame(b"[]"), frame(b"no JSON")):
        with pytest.raises(ValueError, match=r"frame|object|Expecting"):
            parse_replies(data)


def test_a_command_counts_only_if_its_own_reply_is_no_error() -> None:
    check_accepted([Reply(0, "push", {}), Reply(2, "subscribe", {})], 2)
    for replies in ([], [Reply(1, "subscribe", {})], [Reply(2, "error", {"code": 103})]):
        with pytest.raises(ConnectionError, match="command 2"):
            check_accepted(replies, 2)


def test_a_push_carries_the_time_of_its_publish() -> None:
    body = encode_body(encode_stamp(12.5), 200)
    push = frame(b'{"push":{"channel":"user#ann","pub":{"data":%s,"offset":1}}}' % body)
    assert split_stamps(push)[0] == [12.5]
    (reply,), _ = parse_replies(push)
    assert len(body) == 200
    assert reply.content["pub"]["data"] == json.loads(body)


# HTTP


@asynccontextmanager
async def server(status: int, seen: list[bytes]) -> AsyncIterator[int]:
    """Answer every request with this status, and note its path and body. Yield the port."""

    async def note(request: web.Request) -> web.Response:
        seen.append(request.path.encode() + b" " + await request.read())
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/{path:.*}", note)
    async with TestServer(app, host="127.0.0.1") as running:
        assert running.port is not None
        yield running.port


@pytest.mark.parametrize("command", [{"do": "burst", "count": 7}, {"do": "steady", "per_s": 1_000, "seconds": 0.007}])
async def test_each_message_goes_to_the_next_user_once(command: dict[str, Any]) -> None:
    seen: list[bytes] = []
    publisher, command = HttpPublisher(), dict(command)
    async with server(204, seen) as port:
        await publisher.open(
            ports=[port], users=["ann", "bob"], body_bytes=50, target="/to/{user}", headers={}, connections=1
        )
        await getattr(publisher, command.pop("do"))(**command)
        await eventually(lambda: len(seen) == 7)
        await publisher.close()
    assert [request.split()[0] for request in seen] == [b"/to/ann", b"/to/bob"] * 3 + [b"/to/ann"]
    assert all(len(split_stamps(request)[0]) == 1 for request in seen)


async def test_a_request_has_a_line_for_each_message_of_a_batch() -> None:
    seen: list[bytes] = []
    publisher = HttpPublisher()
    async with server(204, seen) as port:
        await publisher.open(
            ports=[port], users=["ann", "bob"], body_bytes=50, target="/batch", headers={}, connections=1, batch=3
        )
        assert await publisher.burst(count=5) == 5
        await eventually(lambda: len(seen) == 2)
        await publisher.close()
    lines = [line.partition(b" ")[0] for request in seen for line in request.partition(b" ")[2].split(b"\n")]
    assert lines == [b"ann", b"bob", b"ann", b"bob", b"ann"]


async def test_a_refused_publish_ends_the_measurement() -> None:
    publisher = HttpPublisher()
    async with server(503, []) as port:
        await publisher.open(ports=[port], users=["ann"], body_bytes=50, target="/", headers={}, connections=1)
        with pytest.raises(ConnectionError, match="503"):
            await publisher.burst(count=3)
        await publisher.close()


def test_a_post_says_how_long_its_body_is() -> None:
    assert encode_head("/publish/ann", {"Authorization": "Bearer k"}, 200) == (
        b"POST /publish/ann HTTP/1.1\r\nHost: benchmark\r\nContent-Length: 200\r\nAuthorization: Bearer k\r\n\r\n"
    )
    head, _, body = encode_batch("/batch", {}, [b'ann "1"', b'bob "2"']).partition(b"\r\n\r\n")
    assert body == b'ann "1"\nbob "2"'
    assert head.endswith(b"Content-Length: 15")


def test_an_answer_is_split_off_once_it_is_whole() -> None:
    answer = b'HTTP/1.1 202 Accepted\r\nDate: today\r\ncontent-length: 4\r\n\r\n{"a"'
    for size in range(len(answer)):
        assert split_answer(answer[:size]) is None
    assert split_answer(answer + b"HTTP") == (202, b"HTTP")
    assert split_answer(b"HTTP/1.1 204 No Content\r\n\r\n") == (204, b"")
    with pytest.raises(ValueError, match="how long"):
        split_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
