"""`wait`: what became of a message."""

import asyncio

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport
from pushcluster_dispatcher.api import replies as replies_module
from pushcluster_dispatcher.api.replies import Collected
from tests.support.waiting import eventually
from tests.unit.dispatcher.api.bench import PATH, SID, SID_2, Bench, problem

LONG = f"{PATH}&wait=30000"
SHORT = f"{PATH}&wait=50"


def acked(sid: str, *others: str) -> OutcomeReport:
    return OutcomeReport(MessageOutcome.ACKED, session=sid, gateway="gateway-0", sessions=(sid, *others))


async def test_the_answer_comes_as_soon_as_every_session_has_reported(bench: Bench) -> None:
    written = OutcomeReport(MessageOutcome.WRITTEN, session=SID_2, gateway="gateway-1", sessions=(SID, SID_2))
    bench.broker.reports = [written, acked(SID, SID_2)]
    response = await bench.post(LONG)
    assert response.status == 200
    assert (await response.json())["outcomes"] == [
        {"outcome": "acked", "session": SID, "gateway": "gateway-0"},
        {"outcome": "written", "session": SID_2, "gateway": "gateway-1"},
    ]


async def test_whoever_has_not_reported_in_time_is_pending(bench: Bench) -> None:
    bench.broker.reports = [acked(SID, SID_2)]
    response = await bench.post(SHORT)
    assert response.status == 202
    assert (await response.json())["outcomes"] == [
        {"outcome": "acked", "session": SID, "gateway": "gateway-0"},
        {"outcome": "pending", "session": SID_2},
    ]


async def test_a_millisecond_may_be_waited_for(bench: Bench) -> None:
    assert (await bench.post(f"{PATH}&wait=1")).status == 202


async def test_when_nobody_has_reported_those_who_are_there_are_pending(bench: Bench) -> None:
    assert (await (await bench.post(SHORT)).json())["outcomes"] == [{"outcome": "pending", "session": SID}]


async def test_when_nobody_knows_who_is_there_the_message_is_pending(bench: Bench) -> None:
    bench.users.error = Unavailable("Redis: refused")
    assert (await (await bench.post(SHORT)).json())["outcomes"] == [{"outcome": "pending"}]


async def test_the_first_outcome_of_a_session_counts(bench: Bench) -> None:
    bench.broker.reports = [acked(SID, SID_2), OutcomeReport(MessageOutcome.REJECTED, session=SID), acked(SID_2)]
    outcomes = (await (await bench.post(LONG)).json())["outcomes"]
    assert [outcome["outcome"] for outcome in outcomes] == ["acked", "acked"]


async def test_what_holds_for_the_message_as_a_whole_ends_the_wait(bench: Bench) -> None:
    bench.broker.reports = [OutcomeReport(MessageOutcome.REJECTED, reason="too large")]
    response = await bench.post(LONG)
    assert response.status == 200
    assert (await response.json())["outcomes"] == [{"outcome": "rejected", "reason": "too large"}]


TAKEN = "another message was published under this message id before: 5-7 in the user's log"
OTHER_BODY = OutcomeReport(MessageOutcome.REJECTED, reason=TAKEN, cause="message_id")


async def test_an_idempotency_key_with_another_body_is_a_conflict(bench: Bench) -> None:
    bench.broker.reports = [OTHER_BODY]
    response = await bench.post(LONG, **{"Idempotency-Key": "order-7"})
    assert response.status == 409
    assert await problem(response) == TAKEN


async def test_a_conflict_of_one_message_of_a_batch_is_its_own(bench: Bench) -> None:
    bench.broker.reports = [OTHER_BODY]
    message = {"user": "alice", "destination": "/queue/demo", "body": "x", "messageId": "order-7"}
    response = await bench.batch(message, {"user": "alice"}, query="?wait=30000")
    assert response.status == 207
    document = await response.json()
    assert document["accepted"] == 0
    assert document["results"][0] == {
        "status": 409,
        "user": "alice",
        "destination": "/queue/demo",
        "messageId": "order-7",
        "detail": TAKEN,
    }


@pytest.mark.parametrize("report", [
    OutcomeReport(MessageOutcome.REJECTED, reason="Redis: ERR", cause="script"),
    OutcomeReport(MessageOutcome.REJECTED, reason=TAKEN),
])  # fmt: skip
async def test_what_is_rejected_for_another_cause_or_by_an_older_dispatcher_is_no_conflict(
    bench: Bench, report: OutcomeReport
) -> None:
    bench.broker.reports = [report]
    response = await bench.post(LONG)
    assert response.status == 200
    assert (await response.json())["outcomes"] == [{"outcome": "rejected", "reason": report.reason}]


async def test_each_message_of_a_batch_has_its_own_outcomes(bench: Bench) -> None:
    bench.broker.reports = [acked(SID)]
    message = {"user": "alice", "destination": "/queue/demo", "body": "x"}
    response = await bench.batch(message, {"user": "alice"}, message, query="?wait=30000")
    first, wrong, second = (await response.json())["results"]
    assert (first["status"], wrong["status"], second["status"]) == (200, 400, 200)
    assert first["outcomes"] == second["outcomes"] == [{"outcome": "acked", "session": SID, "gateway": "gateway-0"}]
    assert len({properties.correlation_id for _, _, properties in bench.broker.published}) == 2


async def test_an_outcome_that_comes_too_late_harms_nobody(bench: Bench) -> None:
    await bench.post(SHORT)
    bench.broker.report(bench.broker.published[0][2], acked(SID))
    bench.broker.reports = [acked(SID)]
    assert (await bench.post(LONG)).status == 200


async def test_so_many_messages_are_waited_for_and_not_one_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies_module, "MAX_WAITING", 2)
    with bench.replies.waiting(), bench.replies.waiting():
        response = await bench.post(LONG)
        assert response.status == 429
        assert response.headers["Retry-After"] == "1"
        await problem(response)
        assert bench.broker.published == []
        message = {"user": "alice", "destination": "/queue/demo", "body": "x"}
        assert (await bench.batch(message, query="?wait=50")).status == 429
    bench.broker.reports = [acked(SID)]
    assert (await bench.post(LONG)).status == 200


async def test_a_lost_connection_answers_everybody_who_waits(bench: Bench) -> None:
    bench.broker.held = asyncio.Event()
    posting = asyncio.create_task(bench.post(LONG))
    await eventually(lambda: bench.broker.published, within_s=5)
    bench.replies.lost()
    bench.broker.held.set()
    async with asyncio.timeout(10):  # of the 30 s that it would have waited
        response = await posting
    assert response.status == 202
    assert (await bench.post(LONG)).status == 503


def test_a_session_that_reports_twice_is_heard_once() -> None:
    collected = Collected()
    collected.take(acked(SID))
    collected.take(OutcomeReport(MessageOutcome.REJECTED, session=SID, sessions=(SID,)))
    assert collected.complete
    assert collected.by_session[SID].outcome is MessageOutcome.ACKED


def test_a_session_that_was_not_there_does_not_complete_the_others() -> None:
    collected = Collected()
    collected.take(acked(SID, SID_2))
    collected.take(acked("c" * 26, SID, SID_2))
    assert not collected.complete
