"""docs/close-codes.md agrees with close_codes.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close

TABLE = (Path(__file__).parents[3] / "docs" / "close-codes.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line.startswith("|")]
BY_NAME = {row[1].strip("`"): row for row in ROWS if len(row) == 5 and row[0].isdigit()}


def test_every_close_is_documented_once_and_none_that_is_not() -> None:
    assert sorted(BY_NAME) == sorted(close.name for close in close_codes.ALL)
    assert sum(len(row) == 5 and row[0].isdigit() for row in ROWS) == len(close_codes.ALL)


def test_no_code_and_no_name_stands_for_two_things() -> None:
    assert (
        len({close.code for close in close_codes.ALL})
        == len({close.name for close in close_codes.ALL})
        == len(close_codes.ALL)
    )
    assert len(close_codes.ALL) > 15, "the catalogue is found at all"


def test_the_table_is_in_the_order_of_the_codes() -> None:
    codes = [int(row[0]) for row in BY_NAME.values()]
    assert codes == sorted(codes)


def test_codes_are_the_standards_or_in_our_two_ranges() -> None:
    assert all(1000 <= close.code <= 1014 or 4000 <= close.code <= 4999 for close in close_codes.ALL)


def test_every_reason_fits_a_close_frame() -> None:
    assert close_codes.MAX_REASON_BYTES == 125 - 2, "a control frame has 125 bytes, two of them the code"
    assert all(len(close.reason.encode()) <= close_codes.MAX_REASON_BYTES for close in close_codes.ALL)


def test_a_close_without_advice_says_its_reason_alone() -> None:
    assert Close("name", 4999, "why").sentence == "why"
    assert Close("name", 4999, "why", advice="do this").sentence == "why: do this"


def test_what_is_known_about_one_case_is_said_in_that_case_alone() -> None:
    assert close_codes.unavailable(None) is close_codes.UNAVAILABLE
    assert close_codes.unavailable(7) == replace(close_codes.UNAVAILABLE, retry_after_ms=7)
    assert "4000 bytes" in close_codes.too_large(4_000).sentence
    assert close_codes.TOO_LARGE.sentence == close_codes.TOO_LARGE.reason


@pytest.mark.parametrize(
    "close",
    [
        close_codes.SLOW_CONSUMER,
        close_codes.NO_HEART_BEAT,
        close_codes.TOKEN_EXPIRED,
        close_codes.NO_PONG,
        close_codes.GAVE_WAY,
        close_codes.CONNECT_TIMEOUT,
        close_codes.DISCONNECTED,
    ],
    ids=lambda close: close.name,
)
def test_a_close_that_no_frame_of_the_client_caused_says_more_than_its_name(close: Close) -> None:
    assert close.sentence.startswith(f"{close.reason}: ")


@pytest.mark.parametrize("close", close_codes.ALL, ids=lambda close: close.name)
def test_the_row_of_a_close_is_true(close: Close) -> None:
    code, _, reason, when, again = BY_NAME[close.name]
    assert (int(code), reason) == (close.code, close.reason)
    assert when
    if close.retry_after_ms is not None:
        assert again == f"yes, after `retry-after-ms` ({close.retry_after_ms})"
    elif 4_000 <= close.code < 4_500:
        assert again.startswith("yes")
    elif close.code >= 4_500:
        assert again in {"no", "with another token, or after `retry-after-ms` if the ERROR has it"}
