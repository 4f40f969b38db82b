"""What a client is told of its own faults, and how its connection ends."""

import pytest

from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.stomp.errors import (
    FrameTooLarge,
    InvalidDestination,
    InvalidHeader,
    LimitExceeded,
    MalformedFrame,
    ProtocolViolation,
    SendRefused,
    TooManyHeaders,
    Unauthenticated,
    UnexpectedFrame,
    UnsupportedVersion,
)

FAULTS: list[tuple[ProtocolViolation, Close, list[str]]] = [
    (MalformedFrame("why"), close_codes.BAD_FRAME, ["why"]),
    (FrameTooLarge("body", 5), close_codes.TOO_LARGE, ["body", "5 bytes"]),
    (TooManyHeaders(7), close_codes.BAD_FRAME, ["7 headers"]),
    (UnexpectedFrame("FOO", "a rule"), close_codes.BAD_REQUEST, ["'FOO'", "a rule"]),
    (InvalidHeader("ACK", "id", None, "a rule"), close_codes.BAD_REQUEST, ["ACK has no", "'id'", "a rule"]),
    (InvalidHeader("ACK", "id", "x", "a rule"), close_codes.BAD_REQUEST, ["ACK has", "'id'", "'x'", "a rule"]),
    (UnsupportedVersion("9.9"), close_codes.UNSUPPORTED_VERSION, ["'9.9'", "1.0,1.1,1.2"]),
    (InvalidDestination("why"), close_codes.BAD_DESTINATION, ["why"]),
    (SendRefused(), close_codes.SEND_REFUSED, ["SEND"]),
    (LimitExceeded("things", 3), close_codes.LIMIT_EXCEEDED, ["more than 3 things"]),
    (Unauthenticated("why"), close_codes.NOT_AUTHENTICATED, ["why"]),
]


@pytest.mark.parametrize(("fault", "close", "facts"), FAULTS, ids=lambda value: type(value).__name__)
def test_each_fault_has_its_close_and_its_facts(fault: ProtocolViolation, close: Close, facts: list[str]) -> None:
    assert fault.close is fault.ending is close
    for each in facts:
        assert each in str(fault)


def test_the_table_has_every_fault() -> None:
    assert {type(fault) for fault, *_ in FAULTS} == set(ProtocolViolation.__subclasses__())


@pytest.mark.parametrize(
    ("fault", "most"),
    [
        (UnexpectedFrame("x" * 1_000, "a rule"), 50),
        (InvalidHeader("ACK", "id", "x" * 1_000, "a rule"), 100),
        (UnsupportedVersion("x" * 1_000), 100),
    ],
)
def test_what_the_client_wrote_is_quoted_in_part(fault: ProtocolViolation, most: int) -> None:
    assert f"'{'x' * most}'" in str(fault)
