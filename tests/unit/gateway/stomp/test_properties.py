"""What must hold for any bytes and any way in which they are cut into pieces."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.errors import ProtocolViolation
from pushcluster_gateway.stomp.frames import Frame, Version
from pushcluster_gateway.stomp.requests import Connect, Request
from pushcluster_gateway.stomp.serializer import encode_frame
from pushcluster_gateway.stomp.session import StompSession
from tests.support.parsing import parse_pieces

LIMITS = Limits(max_frame_bytes=400, max_head_bytes=400, max_headers=5, max_transactions=2, max_transaction_frames=3)
VERSIONS = [None, *Version]


def parse(pieces: list[bytes], version: Version | None) -> tuple[list[Frame], ProtocolViolation | None]:
    """Return the frames, and what ended them; nothing else may be raised, and no more held than the limits allow."""
    frames, violation = parse_pieces(pieces, version, LIMITS, most_held=LIMITS.max_frame_bytes + len(b"\n\r\n"))
    assert all(len(frame.body) <= LIMITS.max_frame_bytes for frame in frames)
    assert all(len(frame.headers) <= LIMITS.max_headers for frame in frames)
    return frames, violation


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut at these places, and where a piece would be larger than a WebSocket message may be."""
    largest = LIMITS.max_frame_bytes
    bounds = sorted({0, len(data), *cuts, *range(0, len(data), largest)})
    return [data[start:end] for start, end in pairwise(bounds)]


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    if draw(st.booleans()):
        return [data[at : at + 1] for at in range(len(data))]
    return cut(data, draw(st.lists(st.integers(0, len(data)), max_size=20)))


# Text as each version may write it: an encoder of its own, so that the gateway's faults do not cancel out.

ESCAPES = {
    Version.V1_0: {},
    Version.V1_1: {"\\": r"\\", "\n": r"\n", ":": r"\c"},
    Version.V1_2: {"\\": r"\\", "\n": r"\n", ":": r"\c", "\r": r"\r"},
}


def texts(version: Version) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from([*"aZ0-_/,;{", "é", "\U0001f600", *ESCAPES[version]]), min_size=1, max_size=8)


@st.composite
def written_frames(draw: st.DrawFn, version: Version) -> tuple[Frame, bytes]:
    """A frame, and one of the ways in which a client may write it."""
    command = draw(st.sampled_from(["SEND", "ACK", "SUBSCRIBE", "BEGIN", "FOO"]))
    headers = draw(st.dictionaries(texts(version), texts(version), max_size=3))
    headers.pop("content-length", None)
    repeated = [(name, draw(texts(version))) for name in headers if draw(st.booleans())][: 4 - len(headers)]
    body = draw(st.binary(max_size=30))
    lines = [*headers.items(), *repeated]
    if b"\0" in body or draw(st.booleans()):
        headers["content-length"] = str(len(body))
        lines.append(("content-length", str(len(body))))
    eol = draw(st.sampled_from(["\n", "\r\n"])) if version is Version.V1_2 else "\n"
    table = str.maketrans(ESCAPES[version])
    head = [command, *(f"{name.translate(table)}:{value.translate(table)}" for name, value in lines), "", ""]
    before = draw(st.sampled_from(["", "\n", "\r\n\n"]))
    return Frame(command, headers, body), (before + eol.join(head)).encode() + body + b"\0"


@given(st.data(), st.sampled_from(list(Version)))
def test_what_a_client_writes_is_what_is_read_however_it_is_cut(data: st.DataObject, version: Version) -> None:
    written = data.draw(st.lists(written_frames(version), max_size=4))
    stream = b"".join(octets for _, octets in written)
    assert parse(data.draw(pieces(stream)), version) == ([frame for frame, _ in written], None)


@given(st.data(), st.sampled_from([Version.V1_1, Version.V1_2]))
def test_what_the_gateway_writes_is_what_is_read(data: st.DataObject, version: Version) -> None:
    headers = data.draw(st.dictionaries(texts(version), texts(version), max_size=4))
    headers.pop("content-length", None)
    body = data.draw(st.binary(max_size=30))
    expected = {**headers, "content-length": str(len(body))} if body else headers
    octets = encode_frame(Frame("ERROR", headers, body), version)
    assert parse(data.draw(pieces(octets)), version) == ([Frame("ERROR", expected, body)], None)


SCRAPS = [
    b"CONNECT\naccept-version:1.2\n\n\0",
    b"SEND\ndestination:/a\ncontent-length:5\n\na\0b\n\0\0",
    b"ACK\r\nid:a\\nb\r\n\r\n\0",
    b"SUBSCRIBE\nid:\xc3\xa9\ndestination:/user/queue/a\n\n\0",
    b"ACK\nid:" + b"x" * 393 + b"\n\n\0",
    b"SEND\n\n" + b"x" * 400 + b"\0",
    b"SEND\ncontent-length:400\n\n" + b"x" * 400 + b"\0",
    b"BAD\nline\n\n\0",
    b"content-length:",
    *[b"\n", b"\r\n", b"\n\n", b"\n\r\n", b"\0", b":", b"\\", b"\r", b"9" * 13, b"\xff", b"junk"],
]
streams = st.lists(st.sampled_from(SCRAPS) | st.binary(max_size=60), max_size=8).map(b"".join)


@given(st.data(), streams, st.sampled_from(VERSIONS))
def test_any_bytes_give_the_same_frames_and_the_same_error_however_they_are_cut(
    data: st.DataObject, stream: bytes, version: Version | None
) -> None:
    one_by_one, error = parse([stream[at : at + 1] for at in range(len(stream))], version)
    frames, other = parse(data.draw(pieces(stream)), version)
    assert frames == one_by_one
    assert type(error) is type(other)


CONVERSATION = (
    b"\nCONNECT\naccept-version:1.1,1.2\nheart-beat:0,0\nlogin:a\\cb\n\n\0\r\n"
    b"SUBSCRIBE\r\nid:s\\c1\r\ndestination:/user/queue/demo\r\nack:client\r\n\r\n\0"
    b"BEGIN\ntransaction:t\n\n\0ACK\nid:1/5-1\ntransaction:t\nreceipt:r1\n\n\0\n\n"
    b"NACK\nid:1/5-2\ntransaction:t\n\n\0COMMIT\ntransaction:t\nreceipt:r2\n\n\0"
    b"DISCONNECT\ncontent-length:3\nreceipt:r3\n\n\0a\0\0"
)


def requests(pieces: list[bytes]) -> list[Request]:
    session = StompSession(LIMITS)

    def take() -> Iterator[Request]:
        for piece in pieces:
            session.receive(piece)
            while (request := session.next_request()) is not None:
                yield request
                if isinstance(request, Connect):
                    session.connected()

    return list(take())


def test_every_way_to_cut_a_conversation_in_three_gives_the_same_requests() -> None:
    expected = requests([CONVERSATION])
    assert [type(request).__name__ for request in expected] == [
        "Connect",
        "Subscribe",
        "ReceiptDue",
        "Commit",
        "Disconnect",
    ]
    size = len(CONVERSATION)
    for first in range(size + 1):
        for second in range(first, size + 1, 7):
            assert requests(cut(CONVERSATION, [first, second])) == expected, (first, second)


@pytest.mark.parametrize("size", range(1, 12))
def test_every_size_of_pieces_gives_the_same_requests(size: int) -> None:
    pieces = [CONVERSATION[at : at + size] for at in range(0, len(CONVERSATION), size)]
    assert requests(pieces) == requests([CONVERSATION])


@given(st.data(), streams)
def test_a_session_raises_nothing_but_violations(data: st.DataObject, stream: bytes) -> None:
    session = StompSession(LIMITS)
    session.receive(b"CONNECT\naccept-version:1.2\n\n\0")
    assert session.next_request() is not None
    session.connected()
    with suppress(ProtocolViolation):
        for piece in data.draw(pieces(stream)):
            session.receive(piece)
            while session.next_request() is not None:
                pass
