import pytest

from pushcluster_contract.control import Disconnect
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.outcomes import (
    MessageOutcome,
    OutcomeReport,
    ReplyAddress,
    ReplyRequest,
    check_reply_queue,
)

SID = "a" * 26


def test_a_reply_request_survives_its_text_whatever_the_producer_wrote() -> None:
    request = ReplyRequest(ReplyAddress("amq.gen-ä", 'c "1"\n2'), (SID, "b" * 26))
    assert ReplyRequest.parse(request.encode()) == request


def test_a_reply_request_is_two_lines_that_a_script_can_make() -> None:
    assert ReplyRequest(ReplyAddress("q", "c"), ("s1", "s2")).encode() == 's1 s2\n["q","c"]'


def test_an_address_stands_in_the_log_as_it_was_written() -> None:
    assert ReplyAddress("amq.gen-ä", "c").encode() == '["amq.gen-ä","c"]'
    assert ReplyAddress("q").encode() == '["q",""]'


def test_a_reply_request_of_nobody_and_of_numbers_is_read() -> None:
    assert ReplyRequest.parse('\n["q",7]') == ReplyRequest(ReplyAddress("q", "7"), ())


@pytest.mark.parametrize("text", ["", "s1", 's1\n["q"]', 's1\n{"q":1}', "s1\n7"])
def test_what_is_no_reply_request_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        ReplyRequest.parse(text)


def test_a_report_survives_its_body() -> None:
    report = OutcomeReport(
        MessageOutcome.ACKED, "bøb", "/queue/demo", "1-1", "order-7", SID, "gateway-0", (SID,), "a reason", "message_id"
    )
    assert OutcomeReport.parse(report.encode()) == report


def test_a_report_says_nothing_that_is_empty() -> None:
    assert OutcomeReport(MessageOutcome.STORED).encode() == b'{"outcome":"stored"}'


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"7", b"null", b'"outcome"', b"\xff"),
        *(b'{"outcome":"lost"}', b'{"outcome":[]}', b'{"outcome":"acked","sessions":7}'),
    ],
)
def test_what_is_no_report_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        OutcomeReport.parse(body)


@pytest.mark.parametrize(
    "name", ["pushcluster.gateway.pod.0", "pushcluster.ingress.00", "push.rejected", "stomp-subscription-1"]
)
def test_a_producer_cannot_have_the_cluster_write_to_its_own_queues(name: str) -> None:
    with pytest.raises(InvalidInput, match="itself"):
        check_reply_queue(name)


@pytest.mark.parametrize("name", ["amq.rabbitmq.reply-to.g1h2", "amq.gen-x", "replies.pod.1", "orders"])
def test_any_other_queue_may_be_answered_to(name: str) -> None:
    assert check_reply_queue(name) == name


def test_a_control_message_survives_its_headers() -> None:
    disconnect = Disconnect("bøb", SID)
    assert Disconnect.parse(disconnect.headers()) == disconnect


@pytest.mark.parametrize(
    "changed",
    [{"pc-control": "reboot"}, {"pc-control": None}, {"pc-user": b"x"}, {"pc-session": "x"}, {"pc-session": 1}],
)
def test_a_control_message_of_another_kind_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        Disconnect.parse({**Disconnect("alice", SID).headers(), **changed})
