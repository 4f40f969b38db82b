import json
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_contract.batch import VERSION, Address, encode_batch, encode_copy, parse_batch, parse_copy
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import StreamId
from pushcluster_contract.limits import (
    BROKER_MAX_MESSAGE_BYTES,
    MAX_BATCH_BYTES,
    MAX_BATCH_COPIES,
    MAX_BODY_BYTES,
    MAX_FORWARDED_HEADER_BYTES,
    MAX_MESSAGE_ID_BYTES,
    MAX_NAME_CHARS,
    MAX_SESSIONS_PER_USER,
    MAX_USER_BYTES,
)
from pushcluster_contract.log_entry import LogEntry, encode_headers
from pushcluster_contract.outcomes import ReplyAddress, ReplyRequest

DEMO = Destination("queue", "demo")
ALICE = Address.of("alice", DEMO)


@dataclass(frozen=True)
class Given:
    user: str
    destination: Destination
    entry: LogEntry

    def encode(self) -> bytes:
        entry = self.entry
        return encode_copy(
            Address.of(self.user, self.destination),
            str(entry.id).encode(),
            entry.body,
            entry.content_type.encode(),
            entry.producer_message_id.encode(),
            encode_headers(entry.headers).encode(),
            entry.expires_ms,
            entry.reply.encode(),
        )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DESTINATIONS = st.builds(Destination, st.sampled_from(["queue", "topic"]), st.sampled_from(["demo", "a_b-1", "x" * 64]))
ENTRIES = st.builds(
    LogEntry,
    st.builds(StreamId, st.integers(0, 10**15), st.integers(0, 10**15)),
    st.binary(max_size=300),
    TEXT,
    TEXT,
    st.dictionaries(TEXT, TEXT, max_size=4),
    st.integers(0, 2**64 - 1),
    TEXT,
)
COPIES = st.lists(st.builds(Given, TEXT.filter(bool), DESTINATIONS, ENTRIES), max_size=20)


@given(COPIES)
def test_a_batch_is_read_as_it_was_encoded(copies: list[Given]) -> None:
    batch = encode_batch([copy.encode() for copy in copies])
    found = parse_batch(batch)
    assert [address for address, _ in found] == [Address.of(copy.user, copy.destination).data for copy in copies]
    assert [parse_copy(batch, span) for _, span in found] == [copy.entry for copy in copies]


def read_all(data: bytes) -> None:
    for _, span in parse_batch(data):
        parse_copy(data, span)


@given(st.binary(max_size=200).map(lambda data: bytes([VERSION]) + data) | st.binary(max_size=100))
def test_any_bytes_are_a_batch_or_invalid_input(data: bytes) -> None:
    with suppress(InvalidInput):
        read_all(data)


@given(COPIES.filter(bool), st.data())
def test_a_batch_that_was_cut_is_refused(copies: list[Given], data: st.DataObject) -> None:
    encoded = [copy.encode() for copy in copies]
    batch = encode_batch(encoded)
    ends = {1}
    for each in encoded:
        ends.add(max(ends) + len(each))
    cut = data.draw(st.integers(1, len(batch) - 1).filter(lambda at: at not in ends))
    with pytest.raises(InvalidInput):
        parse_batch(batch[:cut])


def test_no_two_users_share_an_address() -> None:
    one = Address.of("a", Destination("queue", "b"))
    other = Address.of("a/queue/b", Destination("queue", "b"))
    assert one.data != other.data


@pytest.mark.parametrize("version", [0, 1, 3, 255])
def test_another_version_is_refused_by_its_number(version: int) -> None:
    batch = bytes([version]) + encode_batch([encode_copy(ALICE, b"1-1", b"x")])[1:]
    with pytest.raises(InvalidInput, match=f"version {version}; this program reads 2"):
        parse_batch(batch)


def test_as_many_copies_as_allowed_are_read_and_one_more_is_refused() -> None:
    copy = encode_copy(ALICE, b"1-1", b"")
    assert len(parse_batch(encode_batch([copy] * MAX_BATCH_COPIES))) == MAX_BATCH_COPIES
    with pytest.raises(InvalidInput, match=f"{MAX_BATCH_COPIES + 1} copies"):
        parse_batch(encode_batch([copy] * (MAX_BATCH_COPIES + 1)))


def test_as_many_bytes_as_allowed_are_read_and_one_more_is_refused() -> None:
    room = MAX_BATCH_BYTES - len(encode_batch([encode_copy(ALICE, b"1-1", b"")]))
    assert parse_batch(encode_batch([encode_copy(ALICE, b"1-1", b"x" * room)]))
    with pytest.raises(InvalidInput, match=f"{MAX_BATCH_BYTES + 1} bytes"):
        parse_batch(encode_batch([encode_copy(ALICE, b"1-1", b"x" * (room + 1))]))


def test_a_copy_of_the_largest_message_fits_into_what_the_broker_takes() -> None:
    headers = {"x-": "\x01" * (MAX_FORWARDED_HEADER_BYTES - 2)}
    copy = encode_copy(
        Address.of("u" * MAX_USER_BYTES, Destination("queue", "n" * MAX_NAME_CHARS)),
        b"9999999999999999-9999999999999999",
        b"b" * MAX_BODY_BYTES,
        b"c" * 255,
        b"m" * MAX_MESSAGE_ID_BYTES,
        encode_headers(headers).encode(),
        2**53,
        ReplyRequest(ReplyAddress("\x01" * 255, "\x01" * 255), ("s" * 26,) * MAX_SESSIONS_PER_USER).encode().encode(),
    )
    batch = encode_batch([copy])
    assert len(batch) <= MAX_BATCH_BYTES <= BROKER_MAX_MESSAGE_BYTES
    assert parse_copy(batch, parse_batch(batch)[0][1]).headers == headers


@pytest.mark.parametrize("headers", [b"[]", b'{"x":1}', b"{", b"\xff", b"[" * 9_999], ids=lambda value: value[:4])
def test_headers_that_are_no_object_of_texts_are_refused(headers: bytes) -> None:
    batch = encode_batch([encode_copy(ALICE, b"1-1", b"", headers=headers)])
    with pytest.raises(InvalidInput):
        parse_copy(batch, parse_batch(batch)[0][1])


def test_the_form_on_the_wire_is_the_documented_one() -> None:
    copy = encode_copy(ALICE, b"5-2", b"hi", b"t", b"m", json.dumps({"x": "y"}).encode(), 258, b"r")
    assert encode_batch([copy]).hex(" ") == (
        "02 05 0b 01 01 00 0a 00 01 00 00 00 02 00 00 00 00 00 00 01 02 "
        "00 00 00 00 00 00 00 05 00 00 00 00 00 00 00 02 "
        + b"alice/queue/demotm".hex(" ")
        + " "
        + b'{"x": "y"}rhi'.hex(" ")
    )
