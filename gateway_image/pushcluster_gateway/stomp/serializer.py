"""Frames to bytes. MESSAGE has a path of its own: what is the same for a whole subscription is encoded once."""

from pushcluster_contract.log import LogEntry
from pushcluster_gateway.stomp.escapes import encode_header, encode_repeated_header
from pushcluster_gateway.stomp.frames import AckMode, Frame, Version

HEART_BEAT = b"\n"


def encode_frame(frame: Frame, version: Version) -> bytes:
    """Return any frame but MESSAGE; CONNECTED has no escapes (1.2, Value Encoding)."""
    version = Version.V1_0 if frame.command == "CONNECTED" else version
    lines = [encode_header(name, value, version) for name, value in frame.headers.items()]
    if frame.body:
        lines.append(encode_header("content-length", str(len(frame.body)), version))
    return b"%b\n%b\n%b\0" % (frame.command.encode(), b"".join(lines), frame.body)


class MessageEncoder:
    """Encodes the MESSAGE frames of one subscription."""

    __slots__ = ("_ack_prefix", "_prefix", "_version")

    def __init__(self, *, version: Version, ack_mode: AckMode, subscription_id: str, number: int, destination: str):
        """`subscription_id` is empty in 1.0 when the client gave none; `destination` is as the client wrote it."""
        prefix = b"MESSAGE\n" + encode_header("destination", destination, version)
        if subscription_id:
            prefix += encode_header("subscription", subscription_id, version)
        self._prefix = prefix
        self._version = version
        # Only 1.2 has the header `ack`; before it a message is acknowledged by its message-id.
        has_ack = version is Version.V1_2 and ack_mode is not AckMode.AUTO
        self._ack_prefix = b"ack:%d/" % number if has_ack else b""

    def encode(self, entry: LogEntry, *, redelivered: bool, recovered: bool | None) -> bytes:
        """Return one MESSAGE; `recovered` says whether the replay before it has a gap, None says nothing."""
        message_id = b"%d-%d" % (entry.id.ms, entry.id.seq)
        parts = [self._prefix, b"message-id:", message_id, b"\n"]
        if self._ack_prefix:
            parts += (self._ack_prefix, message_id, b"\n")
        if entry.content_type:
            parts.append(encode_repeated_header("content-type", entry.content_type, self._version))
        if entry.producer_message_id:
            parts.append(encode_header("producer-message-id", entry.producer_message_id, self._version))
        if entry.headers:
            parts += [encode_header(name, value, self._version) for name, value in entry.headers.items()]
        if redelivered:
            parts.append(b"redelivered:true\n")
        if recovered is not None:
            parts.append(b"recovered:true\n" if recovered else b"recovered:false\n")
        parts.append(b"content-length:%d\n\n" % len(entry.body))
        parts += (entry.body, b"\0")
        return b"".join(parts)


def parse_ack_id(text: str) -> tuple[int, str] | None:
    """Read the `ack` header of 1.2: (number of the subscription, message-id), or None when it is not one of ours."""
    number, slash, message_id = text.partition("/")
    if not slash or not (number.isascii() and number.isdigit()) or len(number) > 9:
        return None
    return int(number), message_id
