"""The client's side of Centrifuge's JSON protocol, as far as a benchmark needs it. Pure.

A frame of the WebSocket carries JSON objects, one a line. A command has an id, and its reply has the same. A push has
none. The library's module `protocol` (client.proto) describes them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

TEXT: Final = 0x81
"""First byte of a text frame that is not continued (RFC 6455, section 5.2). A server's frames have no mask."""
PATH: Final = "/connection/websocket?user={user}"
"""The target of the WebSocket's request at the nodes of `peers/centrifuge`."""
CONNECT_ID: Final = 1
SUBSCRIBE_ID: Final = 2


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server says."""

    id: int
    """Of the command; 0: it is a push."""
    kind: str
    """`connect`, `subscribe`, `push`, `error` or another member's name; empty: a ping."""
    content: Any


PING: Final = Reply(0, "", None)
PONG: Final = b"{}"
"""The command that answers a ping, if the reply to `connect` asks for that."""


def encode_connect() -> bytes:
    """Return the first command."""
    return _encode({"id": CONNECT_ID, "connect": {"name": "benchmark"}})


def encode_subscribe(user: str) -> bytes:
    """Return the command that subscribes to the user's own channel."""
    return _encode({"id": SUBSCRIBE_ID, "subscribe": {"channel": f"user#{user}"}})


def _encode(command: dict[str, Any]) -> bytes:
    return json.dumps(command, separators=(",", ":")).encode()


def parse_replies(data: bytes) -> tuple[list[Reply], bytes]:
    """Return what whole frames of a server say, and the bytes of a frame that has not arrived whole.

    Raises ValueError for a frame that is no text, and for text that is not of the protocol.
    """
    replies: list[Reply] = []
    while (frame := _split_frame(data)) is not None:
        payload, data = frame
        replies += [_parse_reply(line) for line in payload.splitlines()]
    return replies, data


def _split_frame(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the first frame's payload and the bytes behind it, or None if it is not whole."""
    if len(data) < 2:
        return None
    if data[0] != TEXT:
        raise ValueError(f"a frame begins with {data[0]:#x} instead of {TEXT:#x}")
    size, begin = data[1], 2
    if size >= 126:
        begin += 2 if size == 126 else 8
        if len(data) < begin:
            return None
        size = int.from_bytes(data[2:begin])
    end = begin + size
    return (data[begin:end], data[end:]) if len(data) >= end else None


def _parse_reply(line: bytes) -> Reply:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError(f"a reply is no object: {line[:100]!r}")  # noqa: TRY004 - the text is wrong, not a type
    number = fields.pop("id", 0)
    kind, content = next(iter(fields.items()), ("", None))
    return Reply(number, kind, content)


def wants_pongs(replies: Sequence[Reply]) -> bool:
    """Return whether these are the server's answer to `connect`, and it asks for an answer to each of its pings."""
    return any(reply.kind == "connect" and reply.content.get("pong", False) for reply in replies)


def check_accepted(replies: Sequence[Reply], number: int) -> None:
    """Raise ConnectionError unless the command with this id was carried out."""
    kinds = [reply for reply in replies if reply.id == number]
    if not kinds or kinds[0].kind == "error":
        raise ConnectionError(f"command {number} was not carried out: {list(replies)}")
