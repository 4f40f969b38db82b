"""Parse a delivery: return a message, or the reason why it is rejected. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import DESTINATION, FURTHER_ROUTING_KEYS, select_forwarded
from pushcluster_contract.ids import check_message_id, check_user
from pushcluster_contract.limits import MAX_BODY_BYTES, MAX_USER_BYTES
from pushcluster_contract.outcomes import ReplyAddress, check_reply_queue
from pushcluster_runtime.amqp import UNREADABLE_HEADER, Delivery
from pushcluster_runtime.amqp.frames import decode_properties
from pushcluster_runtime.hops import Trace

MAX_EXPIRATION_MS: Final = 366 * 86_400_000
"""A longer time is cut to this. The log's own limit is shorter, and Lua counts this number exactly."""
MAX_EXPIRATION_DIGITS: Final = 16
"""An `expiration` with more digits is refused."""

CACHED_TABLES: Final = 4_096
CACHED_TABLE_BYTES: Final = 512
"""Encoded headers up to this size are cached when parsed, because most producers send the same ones repeatedly."""

_SURELY_SHORT_USER: Final = MAX_USER_BYTES // 4
"""In characters, of which none has more than four bytes in UTF-8."""
_PLAIN_FLAGS: Final = (
    BasicProperties.FLAG_CONTENT_TYPE
    | BasicProperties.FLAG_HEADERS
    | BasicProperties.FLAG_DELIVERY_MODE
    | BasicProperties.FLAG_MESSAGE_ID
)
_HEADERS_ALONE: Final = BasicProperties.FLAG_HEADERS.to_bytes(2)


class RejectClass(StrEnum):
    """What was wrong, as a label of the metric. The message's header has the text for people."""

    PROPERTIES = "properties"
    USER = "user"
    DESTINATION = "destination"
    BODY = "body"
    HEADERS = "headers"
    MESSAGE_ID = "message_id"
    CONTENT_TYPE = "content_type"
    EXPIRATION = "expiration"
    PRIORITY = "priority"
    REPLY_TO = "reply_to"
    SCRIPT = "script"
    """Redis refused this message for good."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a message goes to `push.rejected`."""

    kind: RejectClass
    reason: str


class Message(NamedTuple):
    """A well-formed message for one user."""

    user: str
    destination: Destination
    body: bytes
    content_type: str = ""
    message_id: str = ""
    """The producer's idempotency key. Empty: it gave none."""
    headers: Mapping[str, str] | None = None
    """The headers that reach the client."""
    ttl_ms: int = 0
    """How long the message may wait. 0: as long as the log keeps it."""
    reply: ReplyAddress | None = None
    """Where to send outcomes. None: the producer wants none."""
    trace: Trace | None = None
    """What times the hops of this message, if it is one of those that are followed."""


def parse_delivery(delivery: Delivery) -> Message | Rejection:
    """Return the message that was published, or why it is rejected.

    The routing key is the user, a header the destination. The rest comes from the properties.
    """
    return _parse_plain(delivery) or _parse_any(delivery)


def _parse_any(delivery: Delivery) -> Message | Rejection:
    properties = delivery.properties
    headers: Mapping[str, object] = properties.headers or {}
    kind = RejectClass.PROPERTIES
    try:
        _check_readable(headers)
        kind = RejectClass.USER
        user = check_user(_text(delivery.routing_key, "routing key (the user id)"))
        kind = RejectClass.DESTINATION
        destination = _parse_destination(headers.get(DESTINATION))
        kind = RejectClass.BODY
        body = _check_body(delivery.body)
        kind = RejectClass.HEADERS
        forwarded = _select_forwarded(headers) if len(headers) > 1 else None
        kind = RejectClass.MESSAGE_ID
        message_id = _parse_message_id(properties)
        kind = RejectClass.CONTENT_TYPE
        content_type = _parse_content_type(properties)
        kind = RejectClass.EXPIRATION
        ttl_ms = parse_expiration(properties.expiration) if properties.expiration is not None else 0
        kind = RejectClass.PRIORITY
        _check_priority(properties.priority)
        kind = RejectClass.REPLY_TO
        reply = parse_reply_address(properties) if properties.reply_to else None
    except InvalidInput as error:
        return Rejection(kind, str(error))
    return Message(user, destination, body, content_type, message_id, forwarded, ttl_ms, reply)


def _parse_plain(delivery: Delivery) -> Message | None:
    """Parse a message from its encoded properties. Return None if they are unusual or wrong.

    The result is the same as that of `_parse_any`, at a tenth of the cost.
    """
    raw, user, body = delivery.raw_properties, delivery.routing_key, delivery.body
    if raw is None or len(body) > MAX_BODY_BYTES or not 0 < len(user) <= _SURELY_SHORT_USER or not user.isprintable():
        return None
    try:
        flags = raw[0] << 8 | raw[1]
        if flags & ~_PLAIN_FLAGS or not flags & BasicProperties.FLAG_HEADERS:
            return None
        position = 2
        content_type = message_id = ""
        if flags & BasicProperties.FLAG_CONTENT_TYPE:
            content_type, position = _read_short_string(raw, position)
        end = position + 4 + int.from_bytes(raw[position : position + 4])
        table = raw[position:end]
        known = _cached_table(table) if len(table) <= CACHED_TABLE_BYTES else _read_table(table)
        if known is None:
            return None
        position = end
        if flags & BasicProperties.FLAG_DELIVERY_MODE:
            position += 1
        if flags & BasicProperties.FLAG_MESSAGE_ID:
            message_id, position = _read_short_string(raw, position)
    except (IndexError, UnicodeDecodeError):
        return None
    if not content_type.isprintable() or not message_id.isprintable():
        return None
    return Message(user, known[0], body, content_type, message_id, known[1])


def _read_short_string(data: bytes, position: int) -> tuple[str, int]:
    end = position + 1 + data[position]
    return data[position + 1 : end].decode(), end


def _read_table(table: bytes) -> tuple[Destination, Mapping[str, str] | None] | None:
    """Return destination and forwarded headers of an encoded table, or None if anything is wrong with them."""
    headers = decode_properties(_HEADERS_ALONE + table).headers or {}
    try:
        _check_readable(headers)
        return _parse_destination(headers.get(DESTINATION)), _select_forwarded(headers) if len(headers) > 1 else None
    except InvalidInput:
        return None


_cached_table = lru_cache(maxsize=CACHED_TABLES)(_read_table)


def parse_expiration(text: object) -> int:
    """Return AMQP's `expiration`, at least 1 ms. Raise InvalidInput.

    In AMQP, 0 means "at once or never". Behind this function, 0 means no limit.
    """
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > MAX_EXPIRATION_DIGITS:
        at_most = "9" * MAX_EXPIRATION_DIGITS
        raise InvalidInput(f"expiration {str(text)[:50]!r} is not a whole number of milliseconds, at most {at_most}")
    return min(max(int(text), 1), MAX_EXPIRATION_MS)


def parse_reply_address(properties: BasicProperties) -> ReplyAddress:
    """Return where the producer wants outcomes. Raise InvalidInput."""
    queue = check_reply_queue(_text(properties.reply_to, "reply_to"))
    return ReplyAddress(queue, _text(properties.correlation_id or "", "correlation_id"))


def _check_readable(headers: Mapping[str, object]) -> None:
    if UNREADABLE_HEADER in headers:
        raise InvalidInput(f"the properties cannot be read: {headers[UNREADABLE_HEADER]}")


def _check_body(body: bytes) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise InvalidInput(f"the body has {len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    return body


def _parse_destination(value: object) -> Destination:
    if value is None:
        raise InvalidInput(f"header {DESTINATION!r} is missing")
    return Destination.parse(_text(value, f"header {DESTINATION!r}"))


def _select_forwarded(headers: Mapping[str, object]) -> Mapping[str, str] | None:
    for name in headers:
        _text(name, "a header's name")
    if FURTHER_ROUTING_KEYS in headers:
        raise InvalidInput(
            f"header {FURTHER_ROUTING_KEYS!r} sends one message to several users and would break their order; "
            "publish one message for each user"
        )
    return select_forwarded(headers) or None


def _check_priority(priority: int | None) -> None:
    """Raise InvalidInput unless the priority is unset or 0, which Java clients send with every message."""
    if priority:
        raise InvalidInput(f"priority {priority} would let messages of a user overtake each other; leave it unset")


def _parse_message_id(properties: BasicProperties) -> str:
    if not properties.message_id:
        return ""
    return check_message_id(_text(properties.message_id, "message_id"))


def _parse_content_type(properties: BasicProperties) -> str:
    content_type = _text(properties.content_type or "", "content_type")
    if not content_type.isprintable():
        raise InvalidInput("content_type contains a control character")
    return content_type


def _text(value: object, what: str) -> str:
    """Return a string. Raise InvalidInput for bytes, which pika returns for a string that is not UTF-8."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is not UTF-8 text")
    return value
