import io
import json
import logging
from collections.abc import Iterator

import pytest

from pushcluster_runtime.logging import LogLevel, configure


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the root logger writes; the handlers that were there come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(LogLevel.INFO, stream=stream, program="test")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_line_of_json_with_its_fields(lines: io.StringIO) -> None:
    logging.getLogger("a.b").info("session %s\nclosed", "x", extra={"cause": "slow", "session": "äöü"})
    (line,) = lines.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "info",
        "logger": "a.b",
        "message": "session x\nclosed",
        "program": "test",
        "cause": "slow",
        "session": "äöü",
    }


def test_an_error_carries_its_traceback_in_the_same_line(lines: io.StringIO) -> None:
    try:
        [].pop()
    except IndexError:
        logging.getLogger("a").exception("failed")
    record = json.loads(lines.getvalue())
    assert "IndexError: pop from empty list" in record["error"]


def test_a_field_that_json_does_not_know_is_written_as_text(lines: io.StringIO) -> None:
    logging.getLogger("a").info("x", extra={"what": {1, 2}.__class__})
    assert json.loads(lines.getvalue())["what"] == "<class 'set'>"


def test_records_below_the_level_are_left_out(lines: io.StringIO) -> None:
    logging.getLogger("a").debug("noise")
    assert lines.getvalue() == ""
