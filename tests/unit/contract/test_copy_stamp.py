from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_contract.copy_stamp import COPY_STAMP, CopyStamp
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_BATCH_COPIES


def test_the_header_is_the_one_that_other_versions_know() -> None:
    assert COPY_STAMP == "pc-sent"
    assert CopyStamp(1_700_000_000.123456, 17).encode() == "1700000000123456 17"


@given(st.floats(0, 4e9), st.integers(0, MAX_BATCH_COPIES - 1))
def test_a_stamp_is_read_as_it_was_written_to_a_microsecond(sent_s: float, number: int) -> None:
    stamp = CopyStamp.parse(CopyStamp(sent_s, number).encode())
    assert stamp.number == number
    assert abs(stamp.sent_s - sent_s) < 2e-6


def test_the_longest_value_that_is_read() -> None:
    assert CopyStamp.parse("9" * 22 + " 7").number == 7
    with pytest.raises(InvalidInput):
        CopyStamp.parse("9" * 23 + " 7")


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        b"1 1",
        "",
        "1",
        "1 ",
        " 1",
        "-1 1",
        "1 -1",
        "1 1 1",
        "1.5 1",
        "\u0661 1",
        f"1 {MAX_BATCH_COPIES}",
        "1" * 23 + " 1",
        "x" * 100_000,
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="pc-sent"):
        CopyStamp.parse(value)


@given(st.text(max_size=30))
def test_no_text_does_more_than_be_refused(value: str) -> None:
    with suppress(InvalidInput):
        assert 0 <= CopyStamp.parse(value).number < MAX_BATCH_COPIES
