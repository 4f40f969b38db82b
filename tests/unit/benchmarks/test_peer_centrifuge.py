"""The table that compares with Centrifuge, and the bytes that its clients and publisher send and read."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from benchmarks.centrifuge_nodes import SOURCES, parse_version
from benchmarks.centrifuge_protocol import (
    CONNECT_ID,
    SUBSCRIBE_ID,
    Reply,
    check_accepted,
    encode_connect,
    encode_subscribe,
    parse_replies,
)
from benchmarks.http_publisher import HttpPublisher, encode_batch, encode_body, encode_head, split_answer
from benchmarks.measure import Latencies
from benchmarks.peer_report import Load, Maximum, Parts, Result, Round, Steady, build_parts, build_section, build_table
from benchmarks.stomp_clients import encode_stamp, split_stamps
from tests.support.waiting import eventually

QUIET = Steady(cpu_us=4_240.0, p50_ms=6.5, p99_ms=12.0)
HALF = Steady(cpu_us=200.0, p50_ms=25.0, p99_ms=81.0)
EVERYDAY = Steady(cpu_us=1_240.0, p50_ms=5.0, p99_ms=9.0)


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
        Round(100, cpu_s, Latencies(100, p50, p99, 99.0)) for cpu_s, p50, p99 in ((0.9, 1, 9), (0.1, 3, 7), (0.2, 2, 8))
    ]
    found = Steady.of(rounds)
    assert found.cpu_us == pytest.approx(2_000)
    assert (found.p50_ms, found.p99_ms) == (2, 8)


def test_a_way_is_compared_with_the_sum_of_what_it_has_to_pass() -> None:
    results = [Result("ours", quiet=QUIET), Result("in batches", Maximum(1.0, 1.0))]
    table = build_parts(results, Parts(quorum_ms=2.3, append_ms=1.0, transient_ms=0.7))
    assert [(name, p50_ms) for name, p50_ms, _ in table.rows[-2:]] == [("sum of these", 4.0), ("ours", 6.5)]
    assert [ratio for *_, ratio in table.rows] == pytest.approx([2.3 / 4, 1 / 4, 0.7 / 4, 1, 6.5 / 4])


def test_the_version_is_the_one_that_is_compiled() -> None:
    assert parse_version("module m\n\nrequire github.com/centrifugal/centrifuge v1.2.3\n") == "v1.2.3"
    assert parse_version((SOURCES / "go.mod").read_text()).startswith("v")


def test_the_section_says_how_long_it_measured() -> None:
    text = build_section(
        [Result("ours", quiet=QUIET)], {}, Parts(2.3, 1.0, 0.7), Load(rounds=9, sessions=4_321), version="v1.2.3"
    ).render()
    assert "medians (rounds: 9)" in text
    assert "4,321 idle sessions" in text
    assert "Centrifuge v1.2.3" in text


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
