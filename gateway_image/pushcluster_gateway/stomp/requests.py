"""What a client asks for, parsed from its frames. Code behind this module does not read headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import StreamId
from pushcluster_gateway.stomp.errors import InvalidDestination, InvalidHeader, UnsupportedVersion
from pushcluster_gateway.stomp.frames import AckMode, Frame, HeartBeat, Version
from pushcluster_gateway.stomp.serializer import parse_ack_id

MAX_HEART_BEAT_DIGITS: Final = 9
"""Digits of an interval in ms. Nine digits are more than eleven days."""


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT or STOMP."""

    version: Version
    heart_beat: HeartBeat
    login: str
    token: str = field(repr=False)
    """From `Authorization: Bearer …`; empty without one."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE."""

    id: str
    """Empty in 1.0 when the client gave no id."""
    key: str
    """The name that UNSUBSCRIBE and ACK use: the id, or in 1.0 without an id the destination."""
    destination: Destination
    ack_mode: AckMode
    last_message_id: StreamId | None
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE."""

    key: str
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """ACK, or NACK when `accepted` is false."""

    accepted: bool
    message_id: StreamId
    number: int | None
    """1.2: the number of the subscription, from the header `ack` that this gateway sent."""
    key: str | None
    """1.0 and 1.1: the subscription, if the client named it."""
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """COMMIT: the ACK and NACK frames of the transaction, in order."""

    acknowledges: tuple[Acknowledge, ...]
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT."""

    receipt: str | None


@dataclass(frozen=True, slots=True)
class ReceiptDue:
    """The state machine has handled a frame itself, and the frame asks for a RECEIPT."""

    receipt: str


Request = Connect | Subscribe | Unsubscribe | Acknowledge | Commit | Disconnect | ReceiptDue


def parse_connect(frame: Frame, subprotocol: Version | None) -> Connect:
    """Return the request of CONNECT. Raise ProtocolViolation. `subprotocol` comes from the WebSocket handshake."""
    version = _negotiate(frame.headers.get("accept-version"), subprotocol)
    login = frame.headers.get("login", "")
    credentials = frame.headers.get("Authorization") or frame.headers.get("authorization", "")
    # Neither value contains spaces at its ends, and 1.0 may pad any header.
    scheme, _, token = credentials.strip().partition(" ")
    return Connect(
        version=version,
        heart_beat=HeartBeat() if version is Version.V1_0 else _parse_heart_beat(frame),
        login=login.strip() if version is Version.V1_0 else login,
        token=token.strip() if scheme.lower() == "bearer" else "",
    )


def parse_subscribe(frame: Frame, version: Version, max_id_chars: int) -> Subscribe:
    """Return the request of SUBSCRIBE. Raise ProtocolViolation."""
    target = _require(frame, "destination")
    try:
        destination = Destination.parse_subscription(target)
    except InvalidInput as error:
        raise InvalidDestination(str(error)) from None
    subscription_id = _parse_subscription_id(frame, version, max_id_chars)
    last = frame.headers.get("last-message-id")
    return Subscribe(
        id=subscription_id,
        key=subscription_id or target,
        destination=destination,
        ack_mode=_parse_ack_mode(frame, version),
        last_message_id=None if last is None else _parse_message_id(frame, "last-message-id", last),
        receipt=receipt_of(frame),
    )


def parse_unsubscribe(frame: Frame, version: Version) -> Unsubscribe:
    """Return the request of UNSUBSCRIBE. Raise ProtocolViolation."""
    key = frame.headers.get("id")
    if key is None and version is Version.V1_0:
        key = _require(frame, "destination")
    return Unsubscribe(_require(frame, "id") if key is None else key, receipt_of(frame))


def parse_acknowledge(frame: Frame, version: Version) -> Acknowledge:
    """Return the request of ACK or NACK. Raise ProtocolViolation."""
    number: int | None = None
    key: str | None = None
    header = "message-id"
    if version is Version.V1_2:
        header = "id"
        ack_id = parse_ack_id(_require(frame, header))
        if ack_id is None:
            raise InvalidHeader(frame.command, header, frame.headers[header], "it is not the `ack` header of a MESSAGE")
        number, text = ack_id
    else:
        text = _require(frame, header)
        key = _require(frame, "subscription") if version is Version.V1_1 else frame.headers.get("subscription")
    return Acknowledge(
        accepted=frame.command == "ACK",
        message_id=_parse_message_id(frame, header, text),
        number=number,
        key=key,
        receipt=receipt_of(frame),
    )


def receipt_of(frame: Frame) -> str | None:
    """Return the header `receipt`, which RECEIPT repeats, or None."""
    return frame.headers.get("receipt")


def transaction_of(frame: Frame) -> str:
    """Return the transaction of BEGIN, COMMIT or ABORT. Raise InvalidHeader without one."""
    return _require(frame, "transaction")


def _require(frame: Frame, header: str) -> str:
    value = frame.headers.get(header)
    if not value:
        raise InvalidHeader(frame.command, header, value, "it is required")
    return value


def _negotiate(accept_version: str | None, subprotocol: Version | None) -> Version:
    """Return the highest version in common; without the header it is 1.0 (1.2, Protocol Negotiation)."""
    if accept_version is None:
        return subprotocol or Version.V1_0
    offered = {text.strip() for text in accept_version.split(",")}
    common = [version for version in Version if version in offered]
    if not common:
        raise UnsupportedVersion(accept_version)
    return subprotocol if subprotocol in common else max(common)


def _parse_heart_beat(frame: Frame) -> HeartBeat:
    text = frame.headers.get("heart-beat")
    if text is None:
        return HeartBeat()
    parts = text.split(",")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) <= MAX_HEART_BEAT_DIGITS for p in parts):
        raise InvalidHeader(frame.command, "heart-beat", text, "it must be two numbers in ms, like 10000,10000")
    return HeartBeat(int(parts[0]), int(parts[1]))


def _parse_subscription_id(frame: Frame, version: Version, max_chars: int) -> str:
    subscription_id = frame.headers.get("id", "") if version is Version.V1_0 else _require(frame, "id")
    if len(subscription_id) > max_chars:
        raise InvalidHeader(frame.command, "id", subscription_id, f"it has more than {max_chars} characters")
    return subscription_id


def _parse_ack_mode(frame: Frame, version: Version) -> AckMode:
    text = frame.headers.get("ack", AckMode.AUTO)
    modes = [AckMode.AUTO, AckMode.CLIENT] if version is Version.V1_0 else list(AckMode)
    if text not in modes:
        raise InvalidHeader(frame.command, "ack", text, f"it must be one of {', '.join(modes)}")
    return AckMode(text)


def _parse_message_id(frame: Frame, header: str, text: str) -> StreamId:
    try:
        return StreamId.parse(text)
    except InvalidInput:
        rule = "it is not a message-id of this server; they look like 1700000000000-1"
        raise InvalidHeader(frame.command, header, text, rule) from None


def headers_of_connected(
    *,
    version: Version,
    session: str,
    server: str,
    user: str,
    gateway: str,
    heart_beat: HeartBeat,
    expires_in_ms: int | None,
) -> Mapping[str, str]:
    """Return the headers of CONNECTED. `expires_in_ms` is None when the authentication does not expire."""
    expiry = {} if expires_in_ms is None else {"token-expires-in-ms": str(expires_in_ms)}
    return {
        "version": version.value,
        "session": session,
        "server": server,
        "user-name": user,
        "gateway": gateway,
        "heart-beat": str(heart_beat),
        **expiry,
    }
