"""Encodes frames as bytes. MESSAGE has its own encoders, which encode the common parts of many frames only once."""

from functools import lru_cache
from typing import Final

from pushcluster_contract.ids import StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.stomp.escapes import encode_header, encode_repeated_header
from pushcluster_gateway.stomp.frames import AckMode, Frame, Version

HEART_BEAT: Final = b"\n"
CACHED_PREFIXES: Final = 1_024
"""Beginnings of MESSAGE frames that are cached; about a quarter of a megabyte at most."""


def encode_frame(frame: Frame, version: Version) -> bytes:
    """Return the bytes of any frame except MESSAGE. CONNECTED has no escapes (1.2, Value Encoding)."""
    version = Version.V1_0 if frame.command == "CONNECTED" else version
    lines = [encode_header(name, value, version) for name, value in frame.headers.items()]
    if frame.body:
        lines.append(encode_header("content-length", str(len(frame.body)), version))
    return b"%b\n%b\n%b\0" % (frame.command.encode(), b"".join(lines), frame.body)


class MessageEncoder:
    """Encodes the beginning of MESSAGE frames: the part that differs between subscriptions."""

    __slots__ = ("_ack_prefix", "_prefix", "version")

    def __init__(self, *, version: Version, ack_mode: AckMode, subscription_id: str, number: int, destination: str):
        """`subscription_id` is empty in 1.0 when the client gave none; `destination` is as the client wrote it."""
        self.version = version
        self._prefix = _encode_prefix(version, subscription_id, destination)
        # Only 1.2 has the header `ack`; before it a message is acknowledged by its message-id.
        has_ack = version is Version.V1_2 and ack_mode is not AckMode.AUTO
        self._ack_prefix = b"ack:%d/" % number if has_ack else b""

    def encode_head(self, message_id: StreamId, *, redelivered: bool = False, recovered: bool | None = None) -> bytes:
        """Return a MESSAGE up to its tail. `recovered` False says that the replay has a gap; None says nothing."""
        head = self._prefix
        if self._ack_prefix:
            head += b"%b%d-%d\n" % (self._ack_prefix, *message_id)
        if redelivered:
            head += b"redelivered:true\n"
        if recovered is not None:
            head += b"recovered:true\n" if recovered else b"recovered:false\n"
        return head


class TailEncoder:
    """Encodes the rest of MESSAGE frames, from the message-id to the NUL. It is the same in all subscriptions.

    The encoder caches the last tail, so that the sessions of one user that get the same copy share it.
    """

    __slots__ = ("_entry", "_tail", "_version")

    def __init__(self) -> None:
        self._entry: LogEntry | None = None
        self._version = Version.V1_2
        self._tail = b""

    def encode(self, entry: LogEntry, version: Version) -> bytes:
        """Return the tail of a MESSAGE for a client of this version."""
        if entry is not self._entry or version is not self._version:
            self._tail = encode_tail(entry, version)
            self._entry = entry
            self._version = version
        return self._tail


def encode_tail(entry: LogEntry, version: Version) -> bytes:
    """Return a MESSAGE from its message-id to its NUL."""
    (ms, seq), body, content_type, producer_message_id, headers, _, _ = entry
    optional = b""
    if content_type:
        optional = encode_repeated_header("content-type", content_type, version)
    if producer_message_id:
        optional += encode_header("producer-message-id", producer_message_id, version)
    if headers:
        optional += b"".join([encode_header(name, value, version) for name, value in headers.items()])
    return b"message-id:%d-%d\n%bcontent-length:%d\n\n%b\0" % (ms, seq, optional, len(body), body)


@lru_cache(maxsize=CACHED_PREFIXES)
def _encode_prefix(version: Version, subscription_id: str, destination: str) -> bytes:
    """Cached: clients of one program use the same subscription ids, so thousands of sessions share these bytes."""
    prefix = b"MESSAGE\n" + encode_header("destination", destination, version)
    return prefix + encode_header("subscription", subscription_id, version) if subscription_id else prefix


def parse_ack_id(text: str) -> tuple[int, str] | None:
    """Return (number of the subscription, message-id) of an `ack` header, or None for text that is not one of ours."""
    number, slash, message_id = text.partition("/")
    if not slash or not (number.isascii() and number.isdigit()) or len(number) > 9:
        return None
    return int(number), message_id
