from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_dispatcher.ingress.batches import Batch
from pushcluster_dispatcher.log.entries import Appended, AppendRefused
from pushcluster_dispatcher.messages import RejectClass
from pushcluster_runtime.amqp import Delivery


def delivery(tag: int, *, redelivered: bool = False, headers: dict[str, Any] | None = None, **more: Any) -> Delivery:
    given = {"destination": "/queue/demo", **(headers or {})}
    return Delivery(tag, "push", "alice", redelivered, BasicProperties(headers=given, **more), b"x", "c")


@pytest.mark.parametrize(
    ("redelivered", "message_id", "headers"),
    [
        (True, None, {"x-a": "1", "possibly-repeated": "true"}),
        (True, "m", {"x-a": "1"}),
        (False, None, {"x-a": "1"}),
    ],
)
def test_a_message_without_an_id_that_comes_again_is_marked(
    redelivered: bool, message_id: str | None, headers: dict[str, str]
) -> None:
    (message,) = Batch.of([delivery(1, redelivered=redelivered, headers={"x-a": "1"}, message_id=message_id)]).messages
    assert message.headers == headers


def test_a_message_without_other_headers_is_marked_too() -> None:
    (message,) = Batch.of([delivery(1, redelivered=True)]).messages
    assert message.headers == {"possibly-repeated": "true"}


def test_a_producer_cannot_set_the_mark() -> None:
    (message,) = Batch.of([delivery(1, headers={"possibly-repeated": "true"})]).messages
    assert not message.headers


def test_attempts_are_named_after_the_deliveries_whatever_is_malformed_between_them() -> None:
    batch = Batch.of([delivery(4), delivery(5, priority=1), delivery(6)])
    assert batch.name_attempts(17) == [b"17-4", b"17-6"]
    assert (batch.last_tag, batch.received, [each.tag for each, _ in batch.malformed]) == (6, 3, [5])


def test_what_the_log_refuses_joins_what_is_malformed() -> None:
    batch = Batch.of([delivery(1), delivery(2, priority=1), delivery(3)])
    taken = Appended(b"1-1", False, 0, b"", 0)
    appended, rejected = batch.sort_out([taken, AppendRefused("Redis: ERR")])
    assert appended == [(batch.messages[0], taken)]
    assert [(each.tag, rejection.kind) for each, rejection in rejected] == [
        (2, RejectClass.PRIORITY),
        (3, RejectClass.SCRIPT),
    ]
