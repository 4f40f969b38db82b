"""A socket until its request is answered. Then it is closed, or a `WebSocketConnection` takes it over.

It uses little memory, because its client is still unknown: it has no outbox, no parser before the first byte, and
neither a task nor a timer of its own.
"""

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol, cast

from websockets.frames import Frame
from websockets.http11 import Request, Response

from pushcluster_gateway.transport.admission import CutCause
from pushcluster_gateway.transport.connection import ConnectionServer, WebSocketConnection
from pushcluster_gateway.transport.eviction import Stage
from pushcluster_gateway.transport.handshake import ServerHandshake
from pushcluster_gateway.transport.interfaces import SocketHandler
from pushcluster_gateway.transport.timer_wheel import NOT_SCHEDULED, Scheduler

_log = logging.getLogger(__name__)


class PendingServer(ConnectionServer, Protocol):
    """What a pending socket needs from its server, together with what the later connection needs."""

    @property
    def wheel(self) -> "Scheduler[PendingConnection | WebSocketConnection]":
        """Calls `check_deadlines` when a deadline is due."""

    def new_handshake(self) -> ServerHandshake:
        """Return a handshake for one request."""

    def admit(self, pending: "PendingConnection") -> bool:
        """Register a new socket. Return False when it must be cut at once."""

    def count_unauthenticated(self, socket: "PendingConnection | WebSocketConnection", size: int) -> int:
        """Count bytes of an unauthenticated socket, which may evict it."""

    def forget_pending(self, pending: "PendingConnection") -> None:
        """Forget the socket: it is gone, or a connection has taken it over."""

    def answer_handshake(self, pending: "PendingConnection", handshake: ServerHandshake, request: Request) -> Response:
        """Accept or refuse a WebSocket handshake."""

    def count_refusal(self, response: Response) -> None:
        """Count a request that was refused."""

    def count_cut(self, cut: CutCause) -> None:
        """Count a socket that ended without an answer."""

    def open_handler(
        self, pending: "PendingConnection", connection: WebSocketConnection, request: Request, subprotocol: str | None
    ) -> SocketHandler:
        """Register a connection whose handshake was accepted, and return its handler."""


class PendingConnection(asyncio.Protocol):
    """One socket, from its TCP connection to the answer."""

    __slots__ = ("_deadline", "_handshake", "_server", "_transport", "stage", "wheel_slot")

    def __init__(self, server: PendingServer) -> None:
        self.stage = Stage.NONE
        self.wheel_slot = NOT_SCHEDULED
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._handshake: ServerHandshake | None = None
        """From the first byte of the request to its answer."""
        self._deadline = server.clock() + server.limits.handshake_timeout_s

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        if self._server.admit(self):
            self._server.wheel.schedule(self, self._deadline)
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._handshake is None:
            self._handshake = self._server.new_handshake()
        handshake = self._handshake
        self._server.count_unauthenticated(self, len(data))
        if cast(asyncio.Transport, self._transport).is_closing():
            return  # it was evicted
        refusal = handshake.receive(data)
        if refusal is not None:
            self._refuse(refusal)
        elif events := handshake.protocol.events_received():
            # Frames may have come with the request, although RFC 6455 does not let a client send them so early.
            self._answer(handshake, cast(Request, events[0]), cast(Sequence[Frame], events[1:]))

    def eof_received(self) -> None:
        """See asyncio. The transport closes itself afterwards."""
        refusal = self._handshake.receive_eof() if self._handshake is not None else None
        if refusal is not None:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """See asyncio."""
        self._end_handshake()
        self._server.forget_pending(self)

    # What the server calls

    def check_deadlines(self, now: float) -> None:
        """Refuse or cut a socket that took too long."""
        if now < self._deadline:
            self._server.wheel.schedule(self, self._deadline)
        elif self._handshake is not None:
            self._refuse(self._handshake.time_out())
        else:
            self._server.count_cut(CutCause.SILENT)
            self.abort()

    def evict(self) -> None:
        """Cut the socket to free its slot for another one."""
        self._server.count_cut(CutCause.CROWDED)
        self.abort()

    def abort(self) -> None:
        """Cut the socket."""
        if self._transport is not None:
            self._transport.abort()

    # Steps

    def _answer(self, handshake: ServerHandshake, request: Request, frames: Sequence[Frame]) -> None:
        response = self._server.answer_handshake(self, handshake, request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse(response)
            return
        transport = cast(asyncio.Transport, self._transport)
        connection = WebSocketConnection(self._server, transport)
        try:
            handler = self._server.open_handler(self, connection, request, handshake.protocol.subprotocol)
        except Exception:
            _log.exception("could not create the handler of a connection")
            text = "an unexpected error, see the gateway's log"
            self._refuse(handshake.reject(HTTPStatus.INTERNAL_SERVER_ERROR, text))
            return
        self._server.forget_pending(self)
        self._handshake = None  # its protocol goes on with the connection
        transport.set_protocol(connection)
        handshake.protocol.send_response(response)
        connection.open(handler, handshake.protocol, frames, received_bytes=handshake.received_bytes)

    def _refuse(self, response: Response) -> None:
        self._server.count_refusal(response)
        self._end_handshake()
        transport = cast(asyncio.Transport, self._transport)
        transport.write(response.serialize())
        transport.close()

    def _end_handshake(self) -> None:
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.end()
