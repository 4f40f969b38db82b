"""The form in which copies travel from a dispatcher to gateways (step D4): many copies in one AMQP message.

Whatever one dispatcher has for one routing key in one tick of its event loop is joined, so a message that is sent
twice over AMQP costs a fraction of a second one. All modes use this form, and the log is the truth in all of them.

The AMQP message has type `BATCH_TYPE`. Its body is one byte with the version, then the copies in the order of the
log, each of them (integers in network order):

    user bytes         1   length of the user id, UTF-8
    destination bytes  1   length of `/queue/<name>` or `/topic/<name>`
    content type bytes 1   length, 0: none
    message id bytes   1   length of the producer's message id, 0: none
    headers bytes      2   length of the forwarded headers as a JSON object, 0: none
    reply bytes        2   length of the encoded `outcomes.ReplyRequest`, 0: nobody wants outcomes
    body bytes         4   length
    expires            8   ms since the epoch, 0: never
    ms, seq            16  the stream id, `<ms>-<seq>`
    then user, destination, content type, message id, headers, reply and body

User and destination come first and side by side: a gateway finds out by one slice whether a copy concerns it.

A message without any copy says that copies were left out: whoever gets it looks at the logs of its subscriptions.
A reader refuses a version that it does not know: gateways are updated before dispatchers send them a new one.
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
    """User id and destination, as they stand in the copy. No two pairs share one: a destination's name has no slash."""
    user_bytes: int
    """How many of them are the user's id."""

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
    """Return one copy; `headers` is what `log.encode_headers` gives.

    Raises struct.error for what is longer than the contract's limits allow.
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
    """Join copies of `encode_copy` into the body of one AMQP message."""
    return _VERSION_BYTE + b"".join(copies)


CopySpan = tuple[int, tuple[int, ...]]
"""Where a copy's content type begins, and the numbers in its head: what `parse_copy` needs to go on."""


def parse_batch(data: bytes) -> list[tuple[bytes, CopySpan]]:
    """Return the address of each copy and its place, for `parse_copy`.

    Raises InvalidInput for another version, past the limits, and when the lengths do not add up: then none of it is
    of any use.
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
    """Read the copy at a place that `parse_batch` has found; raises InvalidInput when its parts are none."""
    types, (_, _, content_type, message_id, headers, reply, body, expires_ms, ms, seq) = span
    # The usual copy has neither of what is optional. Made without a call for each tuple: this runs for every push.
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
    except (ValueError, RecursionError) as error:  # InvalidInput is one of the first kind
        raise InvalidInput(f"a copy cannot be read: {error}") from None


def _parse_headers(text: bytes) -> dict[str, str]:
    headers = json.loads(text)
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidInput("its headers are no JSON object of texts")
    return headers
