"""The HTTP request that opens a WebSocket: received in pieces, and answered once. No I/O.

websockets parses it and knows RFC 6455; what it would leave without an answer gets one here. docs/close-codes.md has
every status.
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

PATH: Final = "/ws"
MAX_QUOTED_CHARS: Final = 200
"""Of a malformed request, in the answer to it."""


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """What a handler has to know of the HTTP request."""

    subprotocol: Version | None
    token: str = field(repr=False)
    """From the Authorization header, or `access_token` in the query; else empty."""

    @classmethod
    def of(cls, request: Request, subprotocol: str | None) -> "HandshakeResult":
        """Read a request whose handshake was accepted."""
        return cls(None if subprotocol is None else SUBPROTOCOLS[subprotocol], _token(request))


class ServerHandshake:
    """One request, from its first byte to its answer."""

    __slots__ = ("_limits", "_received_bytes", "protocol")

    def __init__(self, limits: Limits, origins: Sequence[Origin | None] | None, logger: Logger) -> None:
        """`origins` that may come in, where None is a request without Origin; without any, all may."""
        # No extension: permessage-deflate would cost memory for each connection.
        self.protocol = ServerProtocol(
            origins=origins,
            select_subprotocol=_select_subprotocol,
            max_size=limits.max_frame_bytes,
            logger=logger,
        )
        """Has the Request once it is whole, and speaks on once it was accepted."""
        self._limits = limits
        self._received_bytes = 0

    def receive(self, data: bytes) -> Response | None:
        """Take bytes of the client; return a refusal when they can become no request."""
        self._received_bytes += len(data)
        if self._received_bytes > self._limits.max_handshake_bytes:
            return self._too_large(f"a request has at most {self._limits.max_handshake_bytes} bytes")
        self.protocol.receive_data(data)
        return self._refusal()

    def receive_eof(self) -> Response | None:
        """Return the refusal of a request that will never be whole."""
        self.protocol.receive_eof()
        return self._refusal()

    def time_out(self) -> Response:
        """Return the refusal of a request that took too long."""
        seconds = self._limits.handshake_timeout_s
        return self.reject(HTTPStatus.REQUEST_TIMEOUT, f"the request was not complete within {seconds:g} s")

    def accept(self, request: Request) -> Response:
        """Return the answer to a whole request, as far as it depends on the request alone: status 101 accepts it."""
        if request.path.partition("?")[0] != PATH:
            return self.reject(HTTPStatus.NOT_FOUND, f"there is nothing but {PATH}")
        return self.protocol.accept(request)

    def reject(self, status: HTTPStatus, text: str) -> Response:
        """Return a refusal with a sentence for people."""
        return self.protocol.reject(status, f"{text}\n")

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
        return self.reject(HTTPStatus.BAD_REQUEST, f"this is no request that opens a WebSocket: {why}")

    def _too_large(self, text: str) -> Response:
        return self.reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request is too large: {text}")


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Return the newest of ours that the client offers; a client that offers none may still speak STOMP."""
    if not offered:
        return None
    for ours in SUBPROTOCOLS:
        if ours in offered:
            return Subprotocol(ours)
    raise NegotiationError(f"no subprotocol in common; supported are {', '.join(SUBPROTOCOLS)}")


def _token(request: Request) -> str:
    values = request.headers.get_all("Authorization")
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    if scheme.lower() == "bearer":
        return token.strip()
    try:
        return parse_qs(urlsplit(request.path).query).get("access_token", [""])[0]
    except ValueError:
        return ""
