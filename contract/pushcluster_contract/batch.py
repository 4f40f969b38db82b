"""The form in which a dispatcher sends copies to gateways: many copies in one AMQP message.

A dispatcher joins all copies that have the same exchange and routing key in one tick of its event loop. So sending
a message over AMQP a second time costs only a fraction of a publish. All routing modes use this form. In all of them
the log is the truth.

The AMQP message has type `BATCH_TYPE`. Its body is one byte with the version, then the copies in the order of the
log, each of them (integers in network order):

    user bytes         1   length of the user id, UTF-8
    destination bytes  1   length of `/queue/<name>` or `/topic/<name>`
    content type bytes 1   length; 0: no content type
    message id bytes   1   length of the producer's message id; 0: no message id
    headers bytes      2   length of the forwarded headers as a JSON object; 0: no headers
    reply bytes        2   length of the encoded `outcomes.ReplyRequest`; 0: nobody wants outcomes
    body bytes         4   length
    expires            8   ms since the epoch; 0: never
    ms, seq            16  the stream id, `<ms>-<seq>`
    then user, destination, content type, message id, headers, reply and body

User and destination come first and side by side, so that a gateway finds the subscriptions of a copy by one slice.

A few of these messages have a header by which the gateway times one of their copies (`copy_stamp.py`).

A message without any copy says that a dispatcher left copies out. The gateway that gets it rereads the logs of its
subscriptions. A reader refuses a version that it does not know. A new version needs gateways that can read it before
dispatchers send it.
"""

import json
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import StreamId
from pushcluster_contract.limits import MAX_BATCH_BYTES, MAX_BATCH_COPIES
from pushcluster_contract.log_entry import NO_HEADERS, LogEntry

BATCH_TYPE: Final = "pushcluster.copies"
"""AMQP's property `type`."""
VERSION: Final = 2

_VERSION_BYTE: Final = bytes([VERSION])
_HEAD: Final = struct.Struct(">BBBBHHIQQQ")
_HEAD_BYTES: Final = _HEAD.size
_new_tuple: Final = tuple.__new__


class Address(NamedTuple):
    """Whom a copy is for."""

    data: bytes
    """User id and destination, as they stand in the copy. Unique, because the name in a destination has no slash."""
    user_bytes: int
    """How many of these bytes are the user id."""

    @classmethod
    def of(cls, user: str, destination: Destination) -> Self:
        """Return the address of a user's destination."""
        encoded = user.encode()
        return cls(encoded + str(destination).encode(), len(encoded))


def encode_copy(  # noqa: PLR0913, PLR0917 - one parameter for each field; called for every message
    address: Address,
    stream_id: bytes,
    body: bytes,
    content_type: bytes = b"",
    message_id: bytes = b"",
    headers: bytes = b"",
    expires_ms: int = 0,
    reply: bytes = b"",
) -> bytes:
    """Return one encoded copy. Raise struct.error when a part is longer than its length field can say.

    `headers` is the result of `log_entry.encode_headers`.
    """
    data, user_bytes = address
    ms, _, seq = stream_id.partition(b"-")
    head = _HEAD.pack(
        user_bytes,
        len(data) - user_bytes,
        len(content_type),
        len(message_id),
        len(headers),
        len(reply),
        len(body),
        expires_ms,
        int(ms),
        int(seq),
    )
    return b"".join((head, data, content_type, message_id, headers, reply, body))


def encode_batch(copies: Sequence[bytes]) -> bytes:
    """Return the body of one AMQP message with these copies, each from `encode_copy`."""
    return _VERSION_BYTE + b"".join(copies)


CopySpan = tuple[int, tuple[int, ...]]
"""Where a copy's content type begins, and the numbers in its head. `parse_copy` needs both."""


def parse_batch(data: bytes) -> list[tuple[bytes, CopySpan]]:
    """Return the address of each copy and its span for `parse_copy`.

    Raise InvalidInput for another version, for more than the limits allow, and when the lengths do not add up. The
    whole batch is refused then.
    """
    if len(data) > MAX_BATCH_BYTES:
        raise InvalidInput(f"a batch of copies has {len(data)} bytes; at most {MAX_BATCH_BYTES} are allowed")
    if not data or data[0] != VERSION:
        raise InvalidInput(f"a batch of copies has version {data[0] if data else 'none'}; this program reads {VERSION}")
    found: list[tuple[bytes, CopySpan]] = []
    position, end = 1, len(data)
    unpack = _HEAD.unpack_from
    try:
        while position < end:
            numbers = unpack(data, position)
            user, destination, content_type, message_id, headers, reply, body, _, _, _ = numbers
            start = position + _HEAD_BYTES
            types = start + user + destination
            found.append((data[start:types], (types, numbers)))
            position = types + content_type + message_id + headers + reply + body
    except struct.error:
        position = end + 1
    if position != end:
        raise InvalidInput(f"a batch of copies ends inside its copy {len(found)}")
    if len(found) > MAX_BATCH_COPIES:
        raise InvalidInput(f"a batch has {len(found)} copies; at most {MAX_BATCH_COPIES} are allowed")
    return found


def parse_copy(data: bytes, span: CopySpan) -> LogEntry:
    """Return the copy at a span from `parse_batch`. Raise InvalidInput when one of its parts cannot be decoded."""
    types, (_, _, content_type, message_id, headers, reply, body, expires_ms, ms, seq) = span
    # The usual copy has no optional part. The tuples are built without calling their classes: this runs for every push.
    if not (content_type or message_id or headers or reply):
        stream_id = _new_tuple(StreamId, (ms, seq))
        return _new_tuple(LogEntry, (stream_id, data[types : types + body], "", "", NO_HEADERS, expires_ms, ""))
    names = types + content_type
    maps = names + message_id
    replies = maps + headers
    bodies = replies + reply
    try:
        return LogEntry(
            StreamId(ms, seq),
            data[bodies : bodies + body],
            data[types:names].decode() if content_type else "",
            data[names:maps].decode() if message_id else "",
            _parse_headers(data[maps:replies]) if headers else NO_HEADERS,
            expires_ms,
            data[replies:bodies].decode() if reply else "",
        )
    except (ValueError, RecursionError) as error:  # InvalidInput is a ValueError
        raise InvalidInput(f"a copy cannot be read: {error}") from None


def _parse_headers(text: bytes) -> dict[str, str]:
    headers = json.loads(text)
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidInput("its headers are not a JSON object with string values")
    return headers
