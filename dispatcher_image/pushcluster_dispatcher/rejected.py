"""What a malformed message looks like in `push.rejected` (step D1). Pure."""

from collections.abc import Mapping
from typing import Any, Final

from pika.spec import BasicProperties

from pushcluster_contract.headers import REJECT_REASON, REJECT_USER
from pushcluster_dispatcher.parse import Rejection
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.confirms import SEQUENCE_HEADER

MAX_HEADER_BYTES: Final = 65_536
"""The producer's own headers; properties and all must fit into one frame (131,072 bytes)."""
MAX_REASON_CHARS: Final = 500
PERSISTENT: Final = 2

_ROUTING_HEADERS: Final = frozenset({"CC", "BCC", SEQUENCE_HEADER})
"""The broker would act on the first two once more; the third is ours."""


def build_rejected(delivery: Delivery, rejection: Rejection, *, bare: bool = False) -> BasicProperties:
    """Return the producer's properties with the reason added.

    Left out are `expiration` (it must not vanish here), `user_id` (the broker compares it with who publishes),
    `reply_to` (nobody answers) and, past MAX_HEADER_BYTES or when `bare`, the producer's headers.
    """
    old = delivery.properties
    headers: dict[str, Any] = {}
    reason = rejection.reason[:MAX_REASON_CHARS]
    original = {name: value for name, value in (old.headers or {}).items() if name not in _ROUTING_HEADERS}
    if bare or _size(original) > MAX_HEADER_BYTES:
        reason += f" ({len(original)} headers left out)"
    else:
        headers.update(original)
    headers[REJECT_REASON] = reason
    headers[REJECT_USER] = _printable(delivery.routing_key)
    return BasicProperties(
        content_type=_text_or_none(old.content_type),
        content_encoding=_text_or_none(old.content_encoding),
        message_id=_text_or_none(old.message_id),
        correlation_id=_text_or_none(old.correlation_id),
        type=_text_or_none(old.type),
        app_id=_text_or_none(old.app_id),
        timestamp=old.timestamp,
        delivery_mode=PERSISTENT,
        headers=headers,
    )


def _size(headers: Mapping[str, Any]) -> int:
    """Return about how many bytes the headers take; the representation is never much shorter than the encoding."""
    return sum(len(repr(name)) + len(repr(value)) + 16 for name, value in headers.items())


def _printable(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
