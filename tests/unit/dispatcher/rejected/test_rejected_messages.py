"""What a person sees of a rejected message, and what is published when it is replayed."""

import json
from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_dispatcher.messages import Message, parse_delivery
from pushcluster_dispatcher.rejected.command import DEFAULT_LIMIT, MAX_LIMIT, parse_arguments
from pushcluster_dispatcher.rejected.messages import RejectedMessage, Replay, build_replay
from pushcluster_runtime.amqp import Delivery

WRONG = {"destination": "/queue/a.b", "pushcluster-reject-reason": "no such name", "pushcluster-user": "alice"}
RIGHT = {**WRONG, "destination": "/queue/demo"}


def rejected(headers: dict[str, Any] = RIGHT, body: bytes = b"hi", key: str = "", **properties: Any) -> RejectedMessage:
    return RejectedMessage.of(Delivery(1, "", key, False, BasicProperties(headers=headers, **properties), body, ""))


def parsed_again(replay: Replay) -> Message:
    """Return what a dispatcher makes of it."""
    parsed = parse_delivery(Delivery(1, "push", replay.user, False, replay.properties, replay.body, ""))
    assert isinstance(parsed, Message)
    return parsed


def test_a_message_says_who_it_was_for_and_why_it_was_rejected() -> None:
    message = rejected(WRONG, message_id="order-7", content_type="text/plain")
    assert (message.user, message.destination, message.reason) == ("alice", "/queue/a.b", "no such name")
    assert message.summarize() == f"{message.id}\talice\t/queue/a.b\t2 B\torder-7\tno such name"
    assert json.loads(message.describe()) == {
        "id": message.id,
        "user": "alice",
        "destination": "/queue/a.b",
        "messageId": "order-7",
        "contentType": "text/plain",
        "reason": "no such name",
        "headers": {"destination": "/queue/a.b"},
        "body": "hi",
    }


def test_of_a_message_that_the_broker_put_aside_the_user_is_the_routing_key() -> None:
    message = rejected({"destination": "/queue/demo", "x-first-death-reason": "expired", "x-death": [{}]}, key="alice")
    assert (message.user, message.reason) == ("alice", "expired")
    assert parsed_again(build_replay(message)).user == "alice"


def test_a_message_with_names_that_are_not_text_is_shown_and_left_in_the_queue() -> None:
    """One such message must not keep the others from being replayed."""
    message = rejected({**RIGHT, b"x-\xff": "a", "x-table": {b"\xfe": [{b"\xfd": b"\xfc"}]}})  # type: ignore[dict-item]
    headers = json.loads(message.describe())["headers"]
    assert headers == {"destination": "/queue/demo", "x-\\xff": "a", "x-table": {"\\xfe": [{"\\xfd": "\\xfc"}]}}
    with pytest.raises(InvalidInput, match="name is not UTF-8"):
        build_replay(message)


def test_nothing_in_a_message_moves_the_cursor_of_a_terminal() -> None:
    headers = {**WRONG, "pushcluster-user": "a\x1b[2Jb\tc\n", "x-a": "\x1b[31m"}
    message = rejected(headers, b"\x1b[2J", content_type="\x07")
    for text in (message.summarize(), message.describe()):
        assert "\x1b" not in text
        assert "\x07" not in text
    assert message.summarize().count("\t") == 5
    assert "\n" not in message.summarize()


def test_bytes_and_strange_values_are_shown() -> None:
    message = rejected({**WRONG, "x-t": {"a": b"\xff"}, "destination": b"\xff"}, b"\xff\x00", message_id=b"\xfe")
    document = json.loads(message.describe())
    assert document["bodyBase64"] == "/wA="
    assert (document["messageId"], document["headers"]["x-t"]) == ("\\xfe", {"a": "\\xff"})
    assert document["destination"] == "\\xff"


def test_a_message_has_one_id_however_often_it_was_read_and_another_one_has_another() -> None:
    first = rejected()
    assert rejected({**RIGHT, "x-delivery-count": 3, "x-acquired-count": 4}).id == first.id
    others = [
        rejected(body=b"ho"),
        rejected(message_id="m"),
        rejected({**RIGHT, "pushcluster-user": "bob"}),
        rejected({**RIGHT, "pushcluster-reject-reason": "another"}),
        rejected(WRONG),
    ]
    assert len({first.id, *(each.id for each in others)}) == 6


def test_a_replayed_message_is_the_same_message_under_an_id_of_its_own() -> None:
    headers = {**RIGHT, "x-kind": "a", "traceparent": "00-1", "other": "o", "x-delivery-count": 1}
    message = rejected(headers, content_type="text/plain", message_id="order-7")
    replay = build_replay(message)
    again = parsed_again(replay)
    assert (again.user, again.destination.name, again.body) == ("alice", "demo", b"hi")
    assert (again.content_type, again.headers) == ("text/plain", {"x-kind": "a", "traceparent": "00-1"})
    assert again.message_id == replay.message_id == f"replay-{message.id}"
    assert (replay.properties.delivery_mode, replay.properties.expiration) == (2, None)
    assert replay.properties.headers == {"destination": "/queue/demo", "x-kind": "a", "traceparent": "00-1"}


def test_what_was_wrong_can_be_replaced() -> None:
    replay = build_replay(rejected(WRONG), user="bob", destination="/topic/news")
    assert (replay.user, replay.destination) == ("bob", "/topic/news")
    assert parsed_again(replay).user == "bob"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (rejected(WRONG), "/queue/<name>"),
        (rejected({"pushcluster-user": "alice"}), "/queue/<name>"),
        (rejected({**RIGHT, "pushcluster-user": ""}), "0 bytes"),
        (rejected(body=b"x" * (MAX_BODY_BYTES + 1)), "65537 bytes"),
        (rejected({**RIGHT, "x-t": [1]}), "neither text"),
        (rejected({**RIGHT, "CC": ["bob"]}), ""),
    ],
)
def test_what_would_be_rejected_again_is_not_replayed(message: RejectedMessage, reason: str) -> None:
    if not reason:
        assert parsed_again(build_replay(message)).headers is None, "it goes to one user alone"
        return
    with pytest.raises(InvalidInput, match=reason):
        build_replay(message)


def test_an_unreadable_message_is_shown_and_not_replayed() -> None:
    message = rejected({"pc-unreadable": "ValueError: x", "pushcluster-user": "alice"})
    assert "ValueError" in message.describe()
    with pytest.raises(InvalidInput):
        build_replay(message)


def test_the_arguments_of_each_command() -> None:
    listing = parse_arguments(["list"])
    assert (listing.command, listing.queue, listing.limit) == ("list", "push.rejected", DEFAULT_LIMIT)
    assert parse_arguments(["list", "--queue", "push.refused"]).queue == "push.refused"
    assert parse_arguments(["show", "a", "b"]).ids == ["a", "b"]
    replaying = parse_arguments(["replay", "a", "--user", "bob", "--destination", "/queue/x", "--limit", "5"])
    assert (replaying.ids, replaying.all, replaying.user, replaying.destination, replaying.limit) == (
        ["a"],
        False,
        "bob",
        "/queue/x",
        5,
    )
    assert parse_arguments(["replay", "--all"]).all


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["show"],
        ["replay"],
        ["replay", "a", "--all"],
        ["list", "--queue", "pushcluster.ingress.00"],
        ["list", "--limit", "0"],
        ["list", "--limit", str(MAX_LIMIT + 1)],
        ["list", "--limit", "1" * 5_000],
        ["list", "--limit", "x"],
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_arguments(arguments)
    assert exit_.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_most_messages_may_be_looked_at() -> None:
    assert parse_arguments(["list", "--limit", str(MAX_LIMIT)]).limit == MAX_LIMIT
