"""One client's WebSocket: websockets' sans-I/O `Protocol` inside an asyncio protocol, once its handshake is over.

A connection has no task and no timer of its own. The server's timer wheel calls `check_deadlines`, and one flush in
each loop tick writes for all connections. A connection does not know STOMP; its `SocketHandler` does.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, Protocol, cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import State

from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.eviction import Stage
from pushcluster_gateway.transport.frame_writer import encode_message, encode_parts
from pushcluster_gateway.transport.interfaces import SocketHandler
from pushcluster_gateway.transport.outbox import Outbox
from pushcluster_gateway.transport.outbox_budget import OutboxBudget
from pushcluster_gateway.transport.protocol_pool import ProtocolPool, dismiss
from pushcluster_gateway.transport.send_queue import count_unacknowledged
from pushcluster_gateway.transport.timer_wheel import NOT_SCHEDULED, Scheduler
from pushcluster_gateway.transport.utf8 import Utf8Validator

STALL_CHECK_S: Final = 1.0
"""How often a socket that takes nothing is checked."""
_PONG_HEAD: Final = 0x80 | Opcode.PONG
"""The first byte of a pong."""


class _Phase(Enum):
    OPEN = auto()
    CLOSING = auto()
    LOST = auto()


_AUTHENTICATED: Final = Stage.AUTHENTICATED
_OPEN: Final = _Phase.OPEN
"""A global name, because every message reads it: access to a member of an enumeration takes several times as long."""


class ConnectionServer(Protocol):
    """What a connection needs from its server."""

    limits: Limits
    clock: Callable[[], float]
    protocols: ProtocolPool
    outboxes: OutboxBudget

    @property
    def wheel(self) -> "Scheduler[WebSocketConnection]":
        """Calls `check_deadlines` when a deadline is due."""

    def count_unauthenticated(self, socket: "WebSocketConnection", size: int) -> int:
        """Count bytes of an unauthenticated client, which may evict it. Return how many it has sent."""

    def hold_request(self, connection: "WebSocketConnection", size: int) -> None:
        """Count the HTTP request of an unauthenticated client, which stays in memory."""

    def mark_authenticated(self, connection: "WebSocketConnection") -> None:
        """Protect the connection from eviction: its client is authenticated."""

    def forget(self, connection: "WebSocketConnection") -> None:
        """Forget the connection: its socket is gone."""

    def plan_flush(self, connection: "WebSocketConnection") -> None:
        """Have the connection flushed at the end of this tick of the event loop."""

    def watch_write(self, connection: "WebSocketConnection", on_written: Callable[[], None]) -> None:
        """Call back once all that waits for the connection now has been written."""


class WebSocketConnection(asyncio.Protocol):
    """One socket."""

    __slots__ = (
        "_close_after_flush",
        "_deadline",
        "_held_by_outbox",
        "_input_holds",
        "_opcode",
        "_phase",
        "_pinged_at",
        "_protocol",
        "_protocol_bytes",
        "_received_at",
        "_server",
        "_taken_bytes",
        "_text",
        "_transport",
        "accepted_bytes",
        "cause",
        "handler",
        "outbox",
        "stage",
        "wheel_slot",
        "written_at",
    )

    def __init__(self, server: ConnectionServer, transport: asyncio.Transport) -> None:
        """Prepare the connection; `open` completes it."""
        self.handler: SocketHandler | None = None
        self.outbox = Outbox(server.limits, server.outboxes)
        self.wheel_slot = NOT_SCHEDULED
        self.stage = Stage.NONE
        self.written_at = server.clock()
        """When data was last written. Pings and pongs do not count: the client's STOMP code does not see them."""
        self.accepted_bytes = 0
        """How many of `outbox.written_bytes` the client's TCP has certainly acknowledged."""
        self.cause: Close | None = None
        """Why the connection closes. The first reason stays."""
        self._server = server
        self._phase = _OPEN
        self._protocol: WebSocketProtocol | None = None
        """None between two messages of the client: see `protocol_pool`."""
        self._transport = transport
        self._deadline = 0.0
        self._received_at = self.written_at
        self._pinged_at = 0.0
        self._input_holds = 0
        self._held_by_outbox = False
        self._opcode = Opcode.TEXT
        self._taken_bytes = 0
        """How many of `outbox.written_bytes` the kernel has certainly taken."""
        self._text = Utf8Validator()
        self._close_after_flush = False
        self._protocol_bytes = 0
        # The transport says at once when the kernel does not take everything. What follows waits in the outbox.
        transport.set_write_buffer_limits(high=0)

    def open(
        self, handler: SocketHandler, protocol: WebSocketProtocol, frames: Sequence[Frame], *, received_bytes: int
    ) -> None:
        """Take over from the handshake: its protocol, which holds the answer, and frames that came with the request.

        `received_bytes` is the size of all that, with the request.
        """
        self.handler = handler
        self._protocol = protocol
        self._queue_protocol_writes(protocol)
        self.wake_at(self._server.clock())
        early_bytes = sum(len(frame.data) for frame in frames) + len(protocol.reader.buffer)
        if early_bytes:
            self._server.count_unauthenticated(self, early_bytes)
        self._take_frames(protocol, frames)
        if self._protocol is protocol and self.stage is Stage.UNAUTHENTICATED:
            # A frame is not complete, and until then its protocol holds the request too.
            self._server.hold_request(self, received_bytes - early_bytes)

    # What a handler may do

    def send(self, data: bytes) -> None:
        """Write bytes as one WebSocket message: text when they are UTF-8, else binary, as browsers require."""
        if self._phase is _Phase.OPEN and self.outbox.add(encode_message(data)):
            self._server.plan_flush(self)

    def send_message(self, head: bytes, tail: bytes) -> None:
        """Do the same for a MESSAGE, which counts in the bounds of the outbox. `head` is UTF-8."""
        if self._phase is _OPEN and self.outbox.add_message(encode_parts(head, tail)):
            self._server.plan_flush(self)

    def when_written(self, on_written: Callable[[], None]) -> None:
        """Call back once all that waits has been passed to the transport. Nobody is called if the socket ends first."""
        self._server.watch_write(self, on_written)

    def close(self, close: Close) -> None:
        """Send what waits, then a close frame. The client has `close_timeout_s` to answer it."""
        if self._phase is not _Phase.OPEN:
            return
        self._begin_closing(close)
        protocol = self._borrow_protocol()
        if protocol.state is State.OPEN:
            protocol.send_close(close.code, close.reason)
        self._queue_protocol_writes(protocol)

    def hold_input(self) -> None:
        """Stop reading until `release_input`. Holds are counted."""
        if self._phase is not _Phase.OPEN:
            return
        self._input_holds += 1
        if self._input_holds == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def release_input(self) -> None:
        """Undo one `hold_input`. A closing connection holds nothing any more."""
        if self._input_holds == 0:
            return
        self._input_holds -= 1
        if self._input_holds == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    def sample_accepted(self) -> int:
        """Return how many bytes the client's TCP has certainly acknowledged.

        This may be a system call, so it is not for every push. Once the socket is gone, nothing more counts.
        """
        if self._phase is not _Phase.LOST and self.accepted_bytes < self.outbox.written_bytes:
            self._note_taken()
            unacknowledged = count_unacknowledged(self._transport)
            if unacknowledged is not None:
                self.accepted_bytes = max(self.accepted_bytes, self._taken_bytes - unacknowledged)
        return self.accepted_bytes

    @property
    def closing(self) -> bool:
        """Whether the connection only waits for its end."""
        return self._phase is not _OPEN

    @property
    def cause_name(self) -> str:
        """The name of the close, as in `close_codes`; empty while the connection is open."""
        return self.cause.name if self.cause is not None else ""

    def mark_authenticated(self) -> None:
        """Protect the connection from eviction from now on: its client is authenticated."""
        self._server.mark_authenticated(self)

    def wake_at(self, due: float) -> None:
        """Have the deadlines checked at this time."""
        self._server.wheel.schedule(self, due)

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._received_at = self._server.clock()
        self._note_taken()
        if self.stage is not _AUTHENTICATED and not self._may_send(len(data)):
            return
        protocol = self._borrow_protocol()
        protocol.receive_data(data)
        if self._phase is not _OPEN:
            # What is written now waits without a bound, and this client only owes its close frame.
            protocol.writes[:] = [each for each in protocol.writes if not each or each[0] != _PONG_HEAD]
        elif protocol.writes and protocol.state is State.OPEN:
            # Pongs go before what the handler answers to the same bytes: clients measure the gateway by them.
            self._queue_protocol_writes(protocol)
        self._take_frames(protocol, cast(Sequence[Frame], protocol.events_received()))

    def eof_received(self) -> None:
        """See asyncio. The transport closes itself afterwards."""
        self._note_taken()
        self._borrow_protocol().receive_eof()
        if self._phase is _Phase.OPEN:
            # Bytes that the client has not taken keep the transport open, but nothing more may be sent.
            self._begin_closing(None)

    def pause_writing(self) -> None:
        """See asyncio."""
        self.outbox.paused = True
        self.outbox.check_stall(self._server.clock(), self._transport.get_write_buffer_size())
        self.wake_at(self._server.clock() + STALL_CHECK_S)

    def resume_writing(self) -> None:
        """See asyncio."""
        self.outbox.paused = False
        self.outbox.note_transport(self._transport.get_write_buffer_size())
        self._server.plan_flush(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """See asyncio. The transport closes its socket afterwards."""
        self.sample_accepted()
        protocol, self._protocol = self._protocol, None
        received = protocol.close_rcvd if protocol is not None else None
        if protocol is not None:
            dismiss(protocol)
        if self.cause is None and self.handler is not None:
            polite = received is not None and received.code in {CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY}
            self.cause = close_codes.CLIENT_DISCONNECTED if polite else close_codes.CONNECTION_LOST
        self._phase = _Phase.LOST
        self.outbox.discard()
        self._server.forget(self)
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.lost()

    # What the server calls

    def flush(self, now: float) -> None:
        """Pass everything that waits to the transport in one write."""
        transport = self._transport
        if transport.is_closing():
            return
        was_paused = self.outbox.paused
        if self._phase is _Phase.CLOSING:
            self.outbox.paused = False  # the last frames go out however full the transport is
        data = self.outbox.take()
        if data:
            if len(data) > self._protocol_bytes:
                self.written_at = now
            self._protocol_bytes = 0
            transport.write(data)
            if self._phase is not _OPEN:
                self.outbox.note_transport(transport.get_write_buffer_size())
        self.outbox.paused |= was_paused
        if self._held_by_outbox and not self.outbox.refuses_input:
            self._held_by_outbox = False
            self.release_input()
        if self._close_after_flush:
            self._note_taken()
            transport.close()
        else:
            self.go_on()

    def go_on(self) -> None:
        """Let the handler continue to send if the outbox has space."""
        if self.handler is not None and self.outbox.free_bytes:
            self.handler.outbox_drained()

    def check_deadlines(self, now: float) -> None:
        """Do what is due, and schedule the next check."""
        if self._phase is _Phase.LOST:
            return
        if self._phase is not _Phase.OPEN:
            if now >= self._deadline:
                self._transport.abort()
            else:
                self.wake_at(self._deadline)
            return
        handler = cast(SocketHandler, self.handler)
        due = handler.check_deadlines(now)
        if self.outbox.check_stall(now, self._transport.get_write_buffer_size()):
            handler.refuse(close_codes.SLOW_CONSUMER)
        elif self.outbox.paused:
            due = min(due, now + STALL_CHECK_S)
        if handler.wants_pings:
            due = min(due, self._ping(now, handler))
        if self._phase is _Phase.OPEN:
            self.wake_at(due)

    def evict(self, close: Close = close_codes.GAVE_WAY) -> None:
        """Close immediately and send the reason; do not wait for the client's close frame."""
        if self.handler is not None:
            self.handler.refuse(close)
        self.flush(self._server.clock())
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Cut the socket."""
        self._transport.abort()

    # Steps

    def _may_send(self, size: int) -> bool:
        """Count bytes of a client whose token is not accepted yet. If these are too many, refuse it, and drop them."""
        limit = self._server.limits.max_unauthenticated_bytes
        sent = self._server.count_unauthenticated(self, size)
        if sent > limit and self._phase is _OPEN:
            cast(SocketHandler, self.handler).refuse(close_codes.too_much_before_connected(limit))
        return sent <= limit and not self._transport.is_closing()

    def _note_taken(self) -> None:
        """Note what the kernel has taken. A transport that closes may have dropped the rest."""
        transport = self._transport
        if not transport.is_closing():
            self._taken_bytes = self.outbox.written_bytes - transport.get_write_buffer_size()

    def _ping(self, now: float, handler: SocketHandler) -> float:
        interval = self._server.limits.ping_interval_s
        if self._input_holds:
            self._received_at = now  # a pong would wait behind what the gateway does not read
        due = max(self._received_at, self._pinged_at) + interval
        if now < due:
            return due
        if self._pinged_at > self._received_at:
            handler.refuse(close_codes.NO_PONG)
        else:
            self._pinged_at = now
            protocol = self._borrow_protocol()
            protocol.send_ping(b"")
            self._queue_protocol_writes(protocol)
            self._return_protocol(protocol)
        return now + interval

    def _borrow_protocol(self) -> WebSocketProtocol:
        protocol = self._protocol
        if protocol is None:
            protocol = self._protocol = self._server.protocols.lend()
        return protocol

    def _return_protocol(self, protocol: WebSocketProtocol) -> None:
        if self._phase is _OPEN and self._server.protocols.give_back(protocol):
            self._protocol = None

    def _take_frames(self, protocol: WebSocketProtocol, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._receive_frame(protocol, frame)
        self._finish_receiving(protocol)

    def _receive_frame(self, protocol: WebSocketProtocol, frame: Frame) -> None:
        opcode = frame.opcode
        if self._phase is not _Phase.OPEN or opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            return
        if opcode is not Opcode.CONT:
            self._opcode = opcode
        data = cast(bytearray, frame.data)
        if self._opcode is Opcode.TEXT and not self._text.accepts(data, fin=frame.fin):
            protocol.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            self._begin_closing(close_codes.WEBSOCKET_ERROR)
            return
        cast(SocketHandler, self.handler).received(data)

    def _finish_receiving(self, protocol: WebSocketProtocol) -> None:
        if self._phase is _Phase.OPEN and protocol.state is not State.OPEN:
            error = protocol.parser_exc
            if isinstance(error, PayloadTooBig):
                cast(SocketHandler, self.handler).refuse(close_codes.too_large(self._server.limits.max_frame_bytes))
            else:
                self._begin_closing(close_codes.WEBSOCKET_ERROR if error is not None else None)
        self._queue_protocol_writes(protocol)
        # Checked after the protocol's own answers: a flood of pings fills the outbox with pongs.
        if self.outbox.refuses_input and not self._held_by_outbox:
            self._held_by_outbox = True
            self.hold_input()
        self._return_protocol(protocol)

    def _begin_closing(self, close: Close | None) -> None:
        self._phase = _Phase.CLOSING
        self.cause = self.cause or close
        self._deadline = self._server.clock() + self._server.limits.close_timeout_s
        self.wake_at(self._deadline)
        if self._input_holds:
            self._input_holds = 1
            self.release_input()  # the client's close frame must be read
        if self.handler is not None:
            self.handler.closing()

    def _queue_protocol_writes(self, protocol: WebSocketProtocol) -> None:
        for data in protocol.data_to_send():
            if data:
                self.outbox.add(data)
                self._protocol_bytes += len(data)
            else:
                self._close_after_flush = True
            self._server.plan_flush(self)
