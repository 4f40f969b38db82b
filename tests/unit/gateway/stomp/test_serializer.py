import pytest

from pushcluster_contract.ids import StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.frames import AckMode, Frame, Version
from pushcluster_gateway.stomp.parser import FrameParser
from pushcluster_gateway.stomp.serializer import (
    CACHED_PREFIXES,
    HEART_BEAT,
    MessageEncoder,
    TailEncoder,
    _encode_prefix,
    encode_frame,
    encode_tail,
    parse_ack_id,
)

ENTRY = LogEntry(StreamId(1_700_000_000_000, 7), b"body")


def encoder(
    version: Version = Version.V1_2, ack_mode: AckMode = AckMode.AUTO, subscription_id: str = "s"
) -> MessageEncoder:
    return MessageEncoder(
        version=version,
        ack_mode=ack_mode,
        subscription_id=subscription_id,
        number=3,
        destination="/user/queue/demo",
    )


def encode(encoder: MessageEncoder, entry: LogEntry, *, redelivered: bool, recovered: bool | None) -> bytes:
    head = encoder.encode_head(entry.id, redelivered=redelivered, recovered=recovered)
    return head + encode_tail(entry, encoder.version)


def parse(data: bytes, version: Version = Version.V1_2) -> Frame:
    parser = FrameParser(Limits())
    parser.version = version
    parser.receive(data)
    frame = parser.next_frame()
    assert frame is not None
    assert parser.held_bytes == 0
    return frame


def test_a_message_carries_what_the_contract_lists() -> None:
    entry = LogEntry(ENTRY.id, b"body", "text/plain", "m:1", {"x-a": "1", "traceparent": "00-ab"})
    data = encode(encoder(), entry, redelivered=True, recovered=False)
    assert parse(data) == Frame(
        "MESSAGE",
        {
            "destination": "/user/queue/demo",
            "subscription": "s",
            "message-id": "1700000000000-7",
            "content-type": "text/plain",
            "producer-message-id": "m:1",
            "x-a": "1",
            "traceparent": "00-ab",
            "redelivered": "true",
            "recovered": "false",
            "content-length": "4",
        },
        b"body",
    )


def test_what_is_not_there_makes_no_header() -> None:
    headers = parse(encode(encoder(subscription_id=""), ENTRY, redelivered=False, recovered=None)).headers
    assert set(headers) == {"destination", "message-id", "content-length"}


def test_only_1_2_with_acks_by_the_client_has_an_ack_header() -> None:
    def ack(version: Version, mode: AckMode) -> str | None:
        return parse(encode(encoder(version, mode), ENTRY, redelivered=False, recovered=True)).headers.get("ack")

    assert ack(Version.V1_2, AckMode.CLIENT) == "3/1700000000000-7"
    assert ack(Version.V1_2, AckMode.CLIENT_INDIVIDUAL) == "3/1700000000000-7"
    assert ack(Version.V1_2, AckMode.AUTO) is None
    assert ack(Version.V1_1, AckMode.CLIENT) is None
    assert parse_ack_id("3/1700000000000-7") == (3, "1700000000000-7")


@pytest.mark.parametrize(
    ("version", "text"), [(Version.V1_2, "a:b\\c\nd\re"), (Version.V1_1, "a:b\\c\nd"), (Version.V1_0, "a:b\\c")]
)
def test_header_values_survive_the_way(version: Version, text: str) -> None:
    entry = LogEntry(ENTRY.id, b"", headers={"x-a": text}, producer_message_id=text, content_type=text)
    headers = parse(encode(encoder(version), entry, redelivered=False, recovered=None), version).headers
    assert headers["x-a"] == headers["producer-message-id"] == headers["content-type"] == text


@pytest.mark.parametrize(
    ("version", "text", "arrives"),
    [
        (Version.V1_2, "a\0b", "a�b"),
        (Version.V1_1, "a\rb\0", "a b�"),
        (Version.V1_0, "a\nb\r\0", "a b �"),
    ],
)
def test_what_a_version_cannot_say_never_breaks_the_frame(version: Version, text: str, arrives: str) -> None:
    entry = LogEntry(ENTRY.id, b"", headers={"x-a": text, "x:b": "v"})
    headers = parse(encode(encoder(version), entry, redelivered=False, recovered=None), version).headers
    assert headers["x-a"] == arrives
    assert headers["x_b" if version is Version.V1_0 else "x:b"] == "v"


def test_bodies_are_opaque() -> None:
    body = bytes(range(256))
    assert parse(encode(encoder(), LogEntry(ENTRY.id, body), redelivered=False, recovered=None)).body == body


def test_connected_is_not_escaped_and_others_are() -> None:
    assert encode_frame(Frame("CONNECTED", {"user-name": "a:b\\"}), Version.V1_2) == b"CONNECTED\nuser-name:a:b\\\n\n\0"
    assert encode_frame(Frame("RECEIPT", {"receipt-id": "a:b"}), Version.V1_2) == b"RECEIPT\nreceipt-id:a\\cb\n\n\0"


def test_a_body_has_its_length() -> None:
    assert encode_frame(Frame("ERROR", {}, b"why\n"), Version.V1_1) == b"ERROR\ncontent-length:4\n\nwhy\n\0"


def test_a_heart_beat_is_one_line_feed() -> None:
    assert HEART_BEAT == b"\n"


def test_each_header_has_its_line_and_nothing_stands_between() -> None:
    frame = Frame("RECEIPT", {"receipt-id": "r", "recovered": "true"})
    assert encode_frame(frame, Version.V1_2) == b"RECEIPT\nreceipt-id:r\nrecovered:true\n\n\0"


def test_the_head_of_a_message_holds_what_differs_between_subscriptions() -> None:
    start = b"MESSAGE\ndestination:/user/queue/demo\nsubscription:s\n"
    assert encoder().encode_head(ENTRY.id) == start
    head = encoder(ack_mode=AckMode.CLIENT).encode_head(ENTRY.id, redelivered=True, recovered=True)
    assert head == start + b"ack:3/1700000000000-7\nredelivered:true\nrecovered:true\n"


@pytest.mark.parametrize("text", ["", "3", "/1-1", "²/1-1", "-3/1-1", "1234567890/1-1"])
def test_what_is_no_ack_header_of_ours_is_none(text: str) -> None:
    assert parse_ack_id(text) is None


def test_the_number_in_an_ack_header_has_at_most_nine_digits() -> None:
    assert parse_ack_id("123456789/1-1") == (123_456_789, "1-1")


@pytest.mark.parametrize("first", list(Version))
@pytest.mark.parametrize("second", list(Version))
def test_a_tail_is_made_anew_for_another_version_and_kept_for_the_same(first: Version, second: Version) -> None:
    tails = TailEncoder()
    entry = LogEntry(ENTRY.id, b"body", headers={"x-a": "1:\r2"})
    before, after = tails.encode(entry, first), tails.encode(entry, second)
    assert after == encode_tail(entry, second)
    assert (before is after) == (first is second)


def test_sessions_of_a_user_share_the_tail_and_no_other_entry_or_version_gets_it() -> None:
    tails = TailEncoder()
    entry = LogEntry(ENTRY.id, b"body", headers={"x-a": "1:2"})
    first = tails.encode(entry, Version.V1_2)
    assert tails.encode(entry, Version.V1_2) is first
    assert tails.encode(entry, Version.V1_0) == encode_tail(entry, Version.V1_0) != first
    other = LogEntry(StreamId(1_700_000_000_000, 8), b"other")
    assert tails.encode(other, Version.V1_0) == encode_tail(other, Version.V1_0)
    assert tails.encode(entry, Version.V1_2) == first


def test_one_prefix_more_than_the_cache_holds_drops_the_oldest() -> None:
    _encode_prefix.cache_clear()
    for n in (*range(CACHED_PREFIXES + 1), 0):
        encoder(subscription_id=f"s{n}")
    assert _encode_prefix.cache_info()[::3] == (0, CACHED_PREFIXES)
