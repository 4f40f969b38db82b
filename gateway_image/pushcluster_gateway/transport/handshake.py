"""The HTTP request that opens a WebSocket: received in pieces, and answered once. No I/O.

The library websockets parses it by RFC 6455. This module also answers requests that the library would leave without an
answer. docs/close-codes.md lists every status.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from logging import Logger
from typing import Final
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import HeaderLineTooLong, NegotiationError, RequestLineTooLong, TooManyHeaders
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.frames import SUBPROTOCOLS, Version
from pushcluster_gateway.transport.protocol_pool import dismiss

PATH: Final = "/ws"
MAX_QUOTED_CHARS: Final = 200
"""How much of a malformed request the answer quotes."""


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """What a handler needs from the HTTP request."""

    subprotocol: Version | None
    token: str = field(repr=False)
    """From the header Authorization, or from `access_token` in the query; else empty."""

    @classmethod
    def of(cls, request: Request, subprotocol: str | None) -> "HandshakeResult":
        """Return the result of a request whose handshake was accepted."""
        return cls(None if subprotocol is None else SUBPROTOCOLS[subprotocol], _token(request))


class _Protocol(ServerProtocol):
    # A function as a parameter would be bound to the protocol and kept in it: a cycle for each connection.

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Return our newest subprotocol that the client offers. One that offers none at all may still use STOMP."""
        if not subprotocols:
            return None
        for ours in SUBPROTOCOLS:
            if ours in subprotocols:
                return Subprotocol(ours)
        raise NegotiationError(f"no subprotocol in common; supported are {', '.join(SUBPROTOCOLS)}")


class ServerHandshake:
    """One request, from its first byte to its answer."""

    __slots__ = ("_limits", "protocol", "received_bytes")

    def __init__(self, limits: Limits, origins: Sequence[Origin | None] | None, logger: Logger) -> None:
        """`origins` lists those to accept; None in it is a request without Origin. If it is None, all are accepted."""
        # No extension: permessage-deflate would need memory for each connection.
        self.protocol = _Protocol(origins=origins, max_size=limits.max_frame_bytes, logger=logger)
        """Returns the Request once it is complete, and serves the connection once the request is accepted."""
        self._limits = limits
        self.received_bytes = 0

    def receive(self, data: bytes) -> Response | None:
        """Take bytes from the client. Return a refusal when they cannot become a valid request, else None."""
        self.received_bytes += len(data)
        if self.received_bytes > self._limits.max_handshake_bytes:
            return self._too_large(f"a request has at most {self._limits.max_handshake_bytes} bytes")
        self.protocol.receive_data(data)
        return self._refusal()

    def receive_eof(self) -> Response | None:
        """Return the refusal of a request that will never be complete."""
        self.protocol.receive_eof()
        return self._refusal()

    def time_out(self) -> Response:
        """Return the refusal of a request that took too long."""
        seconds = self._limits.handshake_timeout_s
        return self.reject(HTTPStatus.REQUEST_TIMEOUT, f"the request was not complete within {seconds:g} s")

    def accept(self, request: Request) -> Response:
        """Return the answer that depends on the complete request alone. Status 101 accepts it."""
        if request.path.partition("?")[0] != PATH:
            return self.reject(HTTPStatus.NOT_FOUND, f"the only path is {PATH}")
        return self.protocol.accept(request)

    def reject(self, status: HTTPStatus, text: str) -> Response:
        """Return a refusal; `text` says why."""
        return self.protocol.reject(status, f"{text}\n")

    def end(self) -> None:
        """Take nothing more: the request was refused, or its socket is gone."""
        dismiss(self.protocol)

    def _refusal(self) -> Response | None:
        error = self.protocol.handshake_exc
        if error is None:
            return None
        if isinstance(error, RequestLineTooLong):
            return self.reject(HTTPStatus.REQUEST_URI_TOO_LONG, f"the request's first line is too long: {error}")
        if isinstance(error, HeaderLineTooLong | TooManyHeaders):
            return self._too_large(str(error))
        cut_short = isinstance(error.__cause__, EOFError)
        why = "cut short, or a line without CR LF" if cut_short else str(error.__cause__ or error)[:MAX_QUOTED_CHARS]
        return self.reject(HTTPStatus.BAD_REQUEST, f"this is not a WebSocket handshake request: {why}")

    def _too_large(self, text: str) -> Response:
        return self.reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request is too large: {text}")


def _token(request: Request) -> str:
    values = request.headers.get_all("Authorization")
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    if scheme.lower() == "bearer":
        return token.strip()
    try:
        return parse_qs(urlsplit(request.path).query).get("access_token", [""])[0]
    except ValueError:
        return ""
