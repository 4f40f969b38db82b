import pytest

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import select_forwarded
from pushcluster_contract.ids import StreamId
from pushcluster_contract.limits import MAX_FORWARDED_HEADER_BYTES, MAX_FORWARDED_HEADERS
from pushcluster_contract.log_entry import LogEntry, encode_headers


def test_x_headers_and_traceparent_are_forwarded_as_text_and_the_rest_stays() -> None:
    headers = {
        "x-a": "1",
        "x-n": 2,
        "x-b": True,
        "x-raw": b"raw",
        "traceparent": "00-1",
        "destination": "/queue/a",
        "other": "o",
    }
    assert select_forwarded(headers) == {"x-a": "1", "x-n": "2", "x-b": "true", "x-raw": "raw", "traceparent": "00-1"}


def test_a_header_whose_prefix_is_in_upper_case_is_forwarded_in_lower_case_and_any_other_as_it_is() -> None:
    headers = {"X-Upper": "1", "X-BOTH": 2, "x-Mixed": "3", "Traceparent": "00-1", "Xother": "o", "Tracestate": "s"}
    assert select_forwarded(headers) == {"x-upper": "1", "x-both": "2", "x-Mixed": "3", "traceparent": "00-1"}


@pytest.mark.parametrize(("one", "other"), [("X-Kind", "x-kind"), ("x-kind", "X-KIND"), ("traceparent", "TraceParent")])
def test_two_headers_that_the_client_would_see_under_one_name_are_refused(one: str, other: str) -> None:
    with pytest.raises(InvalidInput, match=other):
        select_forwarded({one: "1", other: "2"})


def test_a_header_of_a_broker_stays_in_upper_case_too() -> None:
    assert select_forwarded({"X-Death": "a", "X-First-Death-Queue": "b"}) == {}


@pytest.mark.parametrize(
    "name", ["x-death", "x-delivery-count", "x-acquired-count", "x-opt-delivery-count", "x-shovelled",
             "x-received-from", "x-first-death-", "x-first-death-reason", "x-last-death-", "x-last-death-queue"],
)  # fmt: skip
def test_each_header_of_a_broker_stays_and_one_that_only_looks_like_it_is_forwarded(name: str) -> None:
    ours = f"x-our-{name.removeprefix('x-')}"
    assert select_forwarded({name: "a", ours: "b"}) == {ours: "b"}


def test_false_and_floats_are_forwarded_as_text() -> None:
    assert select_forwarded({"x-no": False, "x-part": 1.5}) == {"x-no": "false", "x-part": "1.5"}


def test_the_bytes_of_names_and_values_count_and_not_their_characters() -> None:
    fitting = "ü" * ((MAX_FORWARDED_HEADER_BYTES - len("x-ü".encode())) // 2)
    assert select_forwarded({"x-ü": fitting}) == {"x-ü": fitting}
    with pytest.raises(InvalidInput):
        select_forwarded({"x-ü": fitting + "ü"})


def test_what_the_broker_adds_is_not_forwarded() -> None:
    assert (
        select_forwarded({"x-death": [], "x-delivery-count": 1, "x-first-death-queue": "q", "x-last-death-reason": "r"})
        == {}
    )


def test_what_shovel_and_federation_add_is_not_forwarded_and_refuses_nothing() -> None:
    added = {"x-shovelled": [{"shovel-type": "dynamic"}], "x-received-from": [{"uri": "amqp://up"}]}
    assert select_forwarded({**added, "x-a": "b"}) == {"x-a": "b"}


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, b"\xff"])
def test_a_value_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="x-a"):
        select_forwarded({"x-a": value})


def test_one_header_more_than_the_limit_is_refused() -> None:
    headers = {f"x-{n}": "" for n in range(MAX_FORWARDED_HEADERS)}
    assert len(select_forwarded(headers)) == MAX_FORWARDED_HEADERS
    with pytest.raises(InvalidInput):
        select_forwarded(headers | {"x-more": ""})


def test_one_byte_more_than_the_limit_is_refused() -> None:
    value = "v" * (MAX_FORWARDED_HEADER_BYTES - len("x-a"))
    assert select_forwarded({"x-a": value}) == {"x-a": value}
    with pytest.raises(InvalidInput):
        select_forwarded({"x-a": value + "v"})


def test_a_log_entry_is_read_from_its_stream_fields() -> None:
    fields = {
        b"b": b"\x00body",
        b"h": encode_headers({"x-a": "ü"}).encode(),
        b"t": b"text/plain",
        b"m": b"id-1",
        b"e": b"7",
    }
    assert LogEntry.from_stream(b"5-1", fields) == LogEntry(
        StreamId(5, 1), b"\x00body", "text/plain", "id-1", {"x-a": "ü"}, expires_ms=7
    )
    assert LogEntry.from_stream(b"5-2", {b"b": b""}) == LogEntry(StreamId(5, 2), b"")
    nothing = LogEntry(StreamId(5, 3), b"", "", "", {}, expires_ms=0, reply="")
    assert LogEntry.from_stream(b"5-3", {}) == LogEntry(StreamId(5, 3), b"") == nothing


def test_where_outcomes_are_wanted_is_read_from_the_log() -> None:
    assert LogEntry.from_stream(b"5-1", {b"b": b"x", b"r": "ä".encode()}).reply == "ä"
