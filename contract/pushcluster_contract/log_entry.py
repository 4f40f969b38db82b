"""One entry of a user's log, and the names of its fields in the Redis stream."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from pushcluster_contract.ids import StreamId

BODY: Final = b"b"
HEADERS: Final = b"h"
CONTENT_TYPE: Final = b"t"
MESSAGE_ID: Final = b"m"
EXPIRES_MS: Final = b"e"
REPLY: Final = b"r"
ATTEMPT: Final = b"a"
"""Which delivery of which dispatcher's channel this is (`lua/append.lua`). Gateways do not read it."""


NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class LogEntry(NamedTuple):
    """A message, as the log stores it and as a copy carries it."""

    id: StreamId
    body: bytes
    content_type: str = ""
    producer_message_id: str = ""
    headers: Mapping[str, str] = NO_HEADERS
    expires_ms: int = 0
    """Ms since the epoch, by Redis TIME, after which the message is no longer delivered; 0: it does not expire."""
    reply: str = ""
    """An encoded `outcomes.ReplyRequest` when the producer wants outcomes, else empty."""

    @classmethod
    def from_stream(cls, id_: bytes, fields: Mapping[bytes, bytes]) -> Self:
        """Return the entry of one item of an XRANGE reply. Absent fields get their defaults."""
        raw_headers = fields.get(HEADERS, b"")
        return cls(
            id=StreamId.parse(id_.decode()),
            body=fields.get(BODY, b""),
            content_type=fields.get(CONTENT_TYPE, b"").decode(),
            producer_message_id=fields.get(MESSAGE_ID, b"").decode(),
            headers=json.loads(raw_headers) if raw_headers else {},
            expires_ms=int(fields.get(EXPIRES_MS, b"0")),
            reply=fields.get(REPLY, b"").decode(),
        )


def encode_headers(headers: Mapping[str, str]) -> str:
    """Return forwarded headers as the log stores them: a JSON object, or an empty text without headers."""
    return _JSON.encode(dict(headers)) if headers else ""


_JSON: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
