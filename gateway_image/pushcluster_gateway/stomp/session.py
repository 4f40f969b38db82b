"""The state machine of one client's session: bytes in, requests out.

This module decides which frame may come when, as far as possible in the table `_HANDLERS`. The owner calls `receive`,
then `next_request` until that returns None. It reports a granted CONNECT by `connected`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Final, NoReturn

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.errors import SendRefused, UnexpectedFrame
from pushcluster_gateway.stomp.frames import Frame, Version
from pushcluster_gateway.stomp.parser import FrameParser
from pushcluster_gateway.stomp.requests import (
    Commit,
    Disconnect,
    ReceiptDue,
    Request,
    parse_acknowledge,
    parse_connect,
    parse_subscribe,
    parse_unsubscribe,
    receipt_of,
    transaction_of,
)
from pushcluster_gateway.stomp.transactions import Transactions


class State(Enum):
    """The state of a session."""

    AWAITING_CONNECT = auto()
    CONNECTING = auto()
    """CONNECT is being decided. What the client sends meanwhile waits."""
    CONNECTED = auto()
    CLOSING = auto()
    """After DISCONNECT or an error. Nothing is read any more."""


class StompSession:
    """The STOMP state of one client's session."""

    __slots__ = ("_limits", "_parser", "_transactions", "receipt", "state", "subprotocol", "version")

    def __init__(self, limits: Limits, subprotocol: Version | None = None) -> None:
        self.state = State.AWAITING_CONNECT
        self.version = Version.V1_2
        """The negotiated version; meaningful from CONNECT on."""
        self.subprotocol = subprotocol
        self.receipt: str | None = None
        """The header `receipt` of the frame that is being handled. An ERROR about this frame repeats it."""
        self._limits = limits
        self._parser = FrameParser(limits)
        self._transactions: Transactions | None = None

    def receive(self, data: bytes | bytearray) -> None:
        """Take bytes from the client. Raise ProtocolViolation. While closing, the bytes are ignored."""
        if self.state is not State.CLOSING:
            self._parser.receive(data)

    def next_request(self) -> Request | None:
        """Return the client's next request, or None until more bytes come. Raise ProtocolViolation."""
        while True:
            handlers = _HANDLERS.get(self.state)
            if handlers is None:
                return None
            self.receipt = None
            frame = self._parser.next_frame()
            if frame is None:
                return None
            request = self._handle(frame, handlers)
            if request is not None:
                return request

    def connected(self) -> None:
        """Note that CONNECT was granted."""
        self.state = State.CONNECTED

    def close(self) -> None:
        """Stop reading."""
        self.state = State.CLOSING

    @property
    def transactions(self) -> Transactions:
        """The open transactions. Created at first use, because most sessions never have one."""
        if self._transactions is None:
            self._transactions = Transactions(self._limits)
        return self._transactions

    def _handle(self, frame: Frame, handlers: "Mapping[str, _Handler]") -> Request | None:
        self.receipt = receipt_of(frame)
        return handlers.get(frame.command, _refuse)(self, frame)

    def _connect(self, frame: Frame) -> Request:
        request = parse_connect(frame, self.subprotocol)
        self.version = self._parser.version = request.version
        self.state = State.CONNECTING
        return request

    def _subscribe(self, frame: Frame) -> Request:
        return parse_subscribe(frame, self.version, self._limits.max_subscription_id_chars)

    def _unsubscribe(self, frame: Frame) -> Request:
        return parse_unsubscribe(frame, self.version)

    def _acknowledge(self, frame: Frame) -> Request | None:
        if frame.command == "NACK" and self.version is Version.V1_0:
            _refuse(self, frame)
        request = parse_acknowledge(frame, self.version)
        transaction = frame.headers.get("transaction")
        if transaction is None:
            return request
        self.transactions.add(transaction, replace(request, receipt=None), frame.command)
        return _receipt_due(frame)

    def _begin(self, frame: Frame) -> Request | None:
        self.transactions.begin(transaction_of(frame))
        return _receipt_due(frame)

    def _commit(self, frame: Frame) -> Request:
        return Commit(tuple(self.transactions.close(transaction_of(frame), frame.command)), receipt_of(frame))

    def _abort(self, frame: Frame) -> Request | None:
        self.transactions.close(transaction_of(frame), frame.command)
        return _receipt_due(frame)

    def _disconnect(self, frame: Frame) -> Request:
        self.state = State.CLOSING
        return Disconnect(receipt_of(frame))

    def _send(self, _: Frame) -> NoReturn:
        raise SendRefused


def _receipt_due(frame: Frame) -> ReceiptDue | None:
    receipt = receipt_of(frame)
    return None if receipt is None else ReceiptDue(receipt)


def _refuse(session: StompSession, frame: Frame) -> NoReturn:
    if session.state is State.AWAITING_CONNECT:
        raise UnexpectedFrame(frame.command, "the first frame must be CONNECT or STOMP")
    if frame.command in {"CONNECT", "STOMP"}:
        raise UnexpectedFrame(frame.command, "the session is already connected")
    raise UnexpectedFrame(frame.command, f"STOMP {session.version} has no such frame for clients")


_Handler = Callable[[StompSession, Frame], Request | None]

_HANDLERS: Final[Mapping[State, Mapping[str, _Handler]]] = {
    State.AWAITING_CONNECT: {
        "CONNECT": StompSession._connect,
        "STOMP": StompSession._connect,
    },
    State.CONNECTED: {
        "SUBSCRIBE": StompSession._subscribe,
        "UNSUBSCRIBE": StompSession._unsubscribe,
        "ACK": StompSession._acknowledge,
        "NACK": StompSession._acknowledge,
        "BEGIN": StompSession._begin,
        "COMMIT": StompSession._commit,
        "ABORT": StompSession._abort,
        "DISCONNECT": StompSession._disconnect,
        "SEND": StompSession._send,
    },
}
