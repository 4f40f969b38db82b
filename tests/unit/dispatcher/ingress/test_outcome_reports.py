from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport, ReplyAddress
from pushcluster_dispatcher.ingress.outcome_reports import plan_rejection, plan_reports
from pushcluster_dispatcher.log.entries import Appended
from pushcluster_dispatcher.messages import Message, RejectClass, Rejection
from pushcluster_runtime.amqp import Delivery

DEMO = Destination("queue", "demo")
ADDRESS = ReplyAddress("q", "c1")
NOW_MS = 1_000
SESSIONS = b"a" * 26 + b" pod.0000000000000000"
HELD = (b"", b"")
WRONG = Rejection(RejectClass.DESTINATION, "no destination")


def message(reply: ReplyAddress | None = ADDRESS) -> Message:
    return Message("alice", DEMO, b"hi", message_id="m1", reply=reply)


def appended(sessions: bytes = b"", *, known: bool = False, expires_ms: int = 0) -> Appended:
    return Appended(b"5-7", known, 0, sessions, expires_ms, HELD if known else None)


def outcomes(message: Message, entry: Appended) -> list[MessageOutcome]:
    return [report.outcome for _, report in plan_reports([(message, entry)], lambda: NOW_MS)]


def test_what_no_session_gets_is_stored() -> None:
    report = OutcomeReport(MessageOutcome.STORED, "alice", "/queue/demo", "5-7", "m1")
    assert plan_reports([(message(), appended())], lambda: NOW_MS) == [(ADDRESS, report)]


def test_outcomes_of_messages_that_a_session_gets_are_sent_by_its_gateway() -> None:
    assert outcomes(message(), appended(b"a" * 26 + b" pod.0000000000000000")) == []


def test_a_producer_that_does_not_ask_is_told_nothing() -> None:
    assert outcomes(message(None), appended()) == []


def test_what_was_appended_before_and_has_left_the_log_is_told_of_to_nobody() -> None:
    assert outcomes(message(), Appended(b"", True, 0, b"", 0, made_before=True)) == []


@pytest.mark.parametrize(
    ("known", "expires_ms", "outcome"),
    [
        (True, NOW_MS - 1, MessageOutcome.EXPIRED),
        (True, NOW_MS, MessageOutcome.STORED),
        (True, 0, MessageOutcome.STORED),
        (False, NOW_MS - 1, MessageOutcome.STORED),
    ],
)
def test_a_message_that_came_again_may_be_too_old_by_now(known: bool, expires_ms: int, outcome: MessageOutcome) -> None:
    assert outcomes(message(), appended(known=known, expires_ms=expires_ms)) == [outcome]


@pytest.mark.parametrize(
    ("sessions", "held", "told"),
    [
        (b"", HELD, [MessageOutcome.WRITTEN]),
        (b"", None, [MessageOutcome.WRITTEN]),
        (SESSIONS, None, [MessageOutcome.WRITTEN]),
        (SESSIONS, HELD, []),
    ],
)
def test_of_a_message_that_some_session_got_before_a_retry_learns_that_unless_a_gateway_says_it(
    sessions: bytes, held: tuple[bytes, bytes] | None, told: list[MessageOutcome]
) -> None:
    assert outcomes(message(), Appended(b"5-7", True, 0, sessions, 0, held, got=True)) == told


def test_of_a_message_that_left_the_log_before_any_session_got_it_nobody_knows_what_became() -> None:
    assert outcomes(message(), Appended(b"5-7", True, 0, SESSIONS, 0, None)) == []
    assert outcomes(message(), Appended(b"5-7", True, 0, b"", 0, None)) == []


@pytest.mark.parametrize("held", [HELD, None])
def test_of_a_message_that_may_have_expired_nobody_says_that_it_was_written(held: tuple[bytes, bytes] | None) -> None:
    timed = message()._replace(ttl_ms=10)
    expired = Appended(b"5-7", True, 0, b"", NOW_MS - 1 if held else 0, held, got=True)
    assert outcomes(timed, expired) == ([MessageOutcome.EXPIRED] if held else [])
    in_time = expired._replace(expires_ms=NOW_MS + 1)
    assert outcomes(timed, in_time) == ([MessageOutcome.WRITTEN] if held else [])


def rejection(**properties: Any) -> tuple[ReplyAddress, OutcomeReport] | None:
    return plan_rejection(Delivery(1, "push", "alice", False, BasicProperties(**properties), b"", "c"), WRONG)


def test_a_rejection_is_told_with_its_reason() -> None:
    told = rejection(reply_to="q", correlation_id="c1", message_id="m1")
    assert told == (
        ADDRESS,
        OutcomeReport(MessageOutcome.REJECTED, producer_message_id="m1", reason="no destination", cause="destination"),
    )


@pytest.mark.parametrize(
    "properties",
    [{}, {"correlation_id": "c1"}, {"reply_to": "push.rejected"}, {"reply_to": b"\xff"}],
)
def test_a_rejection_without_a_usable_reply_address_is_not_sent(properties: dict[str, object]) -> None:
    assert rejection(**properties) is None


def test_a_message_id_that_is_no_text_is_left_out() -> None:
    told = rejection(reply_to="q", message_id=b"\xff")
    assert told is not None
    assert told[1].producer_message_id == ""
