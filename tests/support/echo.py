"""The gateway's WebSocket layer with a handler that sends every message back, for judges of the WebSocket protocol."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from unittest.mock import patch

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol

from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.deadlines import NEVER
from pushcluster_gateway.transport.admission import Admission
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.handshake import HandshakeResult
from pushcluster_gateway.transport.server import WebSocketServer

LIMITS: Final = Limits(
    max_frame_bytes=64 << 20,
    max_outbox_bytes=64 << 20,
    max_all_outboxes_bytes=1 << 40,
    max_unauthenticated_bytes=1 << 40,
    max_all_unauthenticated_bytes=1 << 40,
    slow_consumer_s=120,
)
"""The largest of Autobahn's messages have 16 MiB, and nobody is authenticated."""


class EchoHandler:
    """Implements `ports.Handler`."""

    wants_pings = False

    def __init__(self, connection: WebSocketConnection, server: WebSocketServer) -> None:
        self._connection = connection
        self._server = server
        self._pieces = bytearray()

    def received(self, data: bytes | bytearray) -> None:
        self._pieces += data

    def message_ended(self, opcode: Opcode) -> None:
        """Send text as the gateway does, and binary as such even when it is UTF-8, which the gateway would not."""
        data = bytes(self._pieces)
        self._pieces.clear()
        if opcode is Opcode.TEXT:
            self._connection.send(data)
        else:
            self._connection.outbox.add(Frame(opcode, data).serialize(mask=False))
            self._server.plan_flush(self._connection)

    def outbox_drained(self) -> None:
        """Nothing waits."""

    def refuse(self, close: Close) -> None:
        self._connection.close(close)

    def closing(self) -> None:
        """Nothing has to be told to anybody."""

    def lost(self) -> None:
        """Nothing has to be told to anybody."""

    def check_deadlines(self, _: float) -> float:
        return NEVER


class EchoConnection(WebSocketConnection):
    """Tells where messages end: STOMP frames do not follow them, so the gateway's own handler is not told."""

    __slots__ = ()

    def _receive_frame(self, protocol: Protocol, frame: Frame) -> None:
        super()._receive_frame(protocol, frame)
        if frame.fin and frame.opcode < Opcode.CLOSE and isinstance(self.handler, EchoHandler):
            self.handler.message_ended(self._opcode)


@asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """Serve until the end of the block; yields the URL."""

    def open_handler(connection: WebSocketConnection, _: HandshakeResult) -> EchoHandler:
        return EchoHandler(connection, server)

    server = WebSocketServer(
        limits=LIMITS,
        admission=Admission(max_connections=100, handshakes_per_s=0, now=0.0, random=lambda: 0.0),
        allowed_origins=(),
        metrics=Metrics(),
        clock=asyncio.get_running_loop().time,
        handler_factory=open_handler,
    )
    with patch("pushcluster_gateway.transport.pending.WebSocketConnection", EchoConnection):
        port = await server.start("127.0.0.1", 0)
        try:
            yield f"ws://127.0.0.1:{port}/ws"
        finally:
            await server.close()
