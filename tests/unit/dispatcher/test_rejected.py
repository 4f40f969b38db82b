from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.headers import REJECT_REASON, REJECT_USER
from pushcluster_dispatcher.parse import RejectClass, Rejection
from pushcluster_dispatcher.rejected import MAX_HEADER_BYTES, build_rejected
from pushcluster_runtime.amqp import Delivery

FRAME_MAX = 131_072
NO_DESTINATION = Rejection(RejectClass.DESTINATION, "header 'destination' is missing")


def delivery(routing_key: Any = "alice", **properties: Any) -> Delivery:
    return Delivery(1, "push", routing_key, False, BasicProperties(**properties), b"body", "c")


def encoded_size(properties: BasicProperties) -> int:
    return sum(map(len, properties.encode()))


def test_the_reason_and_the_user_stand_beside_the_producers_own_headers() -> None:
    built = build_rejected(delivery(headers={"x-a": "b", "n": 1}, message_id="m", content_type="t"), NO_DESTINATION)
    assert built.headers == {"x-a": "b", "n": 1, REJECT_REASON: NO_DESTINATION.reason, REJECT_USER: "alice"}
    assert (built.message_id, built.content_type, built.delivery_mode) == ("m", "t", 2)


def test_what_the_broker_would_act_on_again_is_left_out() -> None:
    old = delivery(
        expiration="1", user_id="producer", reply_to="q", headers={"CC": ["other"], "BCC": ["x"], "pc-seq": 4}
    )
    built = build_rejected(old, NO_DESTINATION)
    assert (built.expiration, built.user_id, built.reply_to) == (None, None, None)
    assert set(built.headers or {}) == {REJECT_REASON, REJECT_USER}


def test_headers_as_large_as_a_frame_are_left_out_and_counted() -> None:
    old = delivery(headers={f"h{n}": "x" * 1_000 for n in range(125)}, message_id="m")
    built = build_rejected(old, NO_DESTINATION)
    assert encoded_size(built) < MAX_HEADER_BYTES
    assert (built.headers or {})[REJECT_REASON] == f"{NO_DESTINATION.reason} (125 headers left out)"


@pytest.mark.parametrize("value", ["é" * 30_000, b"\xff" * 60_000, ["x" * 60_000], 7], ids=type)
def test_what_is_kept_always_fits_into_one_frame(value: Any) -> None:
    old = delivery("u" * 255, headers={"h": value, "i": "y" * 5_000}, message_id="m" * 255, content_type="c" * 255)
    built = build_rejected(old, Rejection(RejectClass.SCRIPT, "é" * 10_000))
    assert encoded_size(built) < FRAME_MAX - 100


def test_a_user_and_properties_that_are_not_utf8_can_be_published() -> None:
    built = build_rejected(delivery(b"\xffa", message_id=b"\xff", headers={b"\xff": 1}), NO_DESTINATION)
    assert (built.headers or {})[REJECT_USER] == "\\xffa"
    assert built.message_id is None
    assert encoded_size(built) > 0


def test_a_bare_one_has_none_of_the_producers_headers() -> None:
    built = build_rejected(delivery(headers={"a": 1}), NO_DESTINATION, bare=True)
    assert set(built.headers or {}) == {REJECT_REASON, REJECT_USER}
