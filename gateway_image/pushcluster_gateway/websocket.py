"""One client's socket: websockets' sans-I/O `ServerProtocol` inside an asyncio protocol.

No task and no timer of its own: the server's timing wheel calls `check_deadlines`, and one flush a loop tick writes for
all connections. Knows nothing of STOMP; a `Handler` does.
"""

import asyncio
import codecs
import logging
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State

from pushcluster_gateway import closes
from pushcluster_gateway.admission import Cut
from pushcluster_gateway.closes import Close
from pushcluster_gateway.framing import encode_message, encode_parts
from pushcluster_gateway.handshake import Opening
from pushcluster_gateway.outbox import Outbox
from pushcluster_gateway.places import Stage
from pushcluster_gateway.ports import Handler, Host
from pushcluster_gateway.wheel import NOT_SCHEDULED

STALL_CHECK_S: Final = 1.0
"""How often a socket that takes nothing is looked at."""
_log = logging.getLogger(__name__)

_UTF8: Final = codecs.getincrementaldecoder("utf-8")


class _Phase(Enum):
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()
    LOST = auto()


_OPEN: Final = _Phase.OPEN
"""Looked up for every message: a member of an enumeration costs several times as much as a global name."""


class WebSocketConnection(asyncio.Protocol):
    """One socket."""

    __slots__ = (
        "_close_after_flush",
        "_deadline",
        "_decoder",
        "_held_for_room",
        "_input_holds",
        "_opcode",
        "_opening",
        "_phase",
        "_pinged_at",
        "_protocol",
        "_protocol_bytes",
        "_received_at",
        "_server",
        "_transport",
        "accepted_bytes",
        "cause",
        "handler",
        "outbox",
        "stage",
        "wheel_slot",
        "written_at",
    )

    def __init__(self, server: Host) -> None:
        self.handler: Handler | None = None
        self.outbox = Outbox(server.limits)
        self.wheel_slot = NOT_SCHEDULED
        self.stage = Stage.NONE
        self.written_at = 0.0
        """When data was last written. Pings and pongs do not count: what speaks over the client's socket sees none."""
        self.accepted_bytes = 0
        """What the kernel has certainly taken of `outbox.written_bytes`."""
        self.cause: Close | None = None
        """Why it closes; the first reason stays."""
        self._server = server
        self._phase = _Phase.HANDSHAKE
        self._opening: Opening | None = None
        """From the first byte of the request to its answer."""
        self._protocol: Protocol | None = None
        """None until then, and between two messages of the client: see `protocols`."""
        self._transport: asyncio.Transport | None = None
        self._deadline = 0.0
        self._received_at = 0.0
        self._pinged_at = 0.0
        self._input_holds = 0
        self._held_for_room = False
        self._opcode = Opcode.TEXT
        self._decoder: codecs.IncrementalDecoder | None = None
        self._close_after_flush = False
        self._protocol_bytes = 0

    # What a handler may do

    def send(self, data: bytes) -> None:
        """Write bytes as one WebSocket message: text when they are UTF-8, which browsers insist on."""
        if self._phase is _Phase.OPEN and self.outbox.add(encode_message(data)):
            self._server.plan_flush(self)

    def send_message(self, head: bytes, tail: bytes) -> None:
        """Do the same for what counts as a message in the outbox's bounds; `head` is UTF-8."""
        if self._phase is _OPEN and self.outbox.add_message(encode_parts(head, tail)):
            self._server.plan_flush(self)

    def close(self, close: Close) -> None:
        """Send what waits, then a close frame; the client has `close_timeout_s` to answer it."""
        if self._phase is not _Phase.OPEN:
            return
        self._begin_closing(close)
        protocol = self._borrow_protocol()
        if protocol.state is State.OPEN:
            protocol.send_close(close.code, close.reason)
        self._queue_protocol_writes(protocol)

    def hold_input(self) -> None:
        """Read nothing more until `release_input`; holds are counted."""
        if self._phase is not _Phase.OPEN:
            return
        self._input_holds += 1
        if self._input_holds == 1 and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def release_input(self) -> None:
        """Undo one `hold_input`; while closing nothing is held any more."""
        if self._input_holds == 0:
            return
        self._input_holds -= 1
        if self._input_holds == 0 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def sample_accepted(self) -> int:
        """Return how many bytes the kernel has taken, as far as is known."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self.accepted_bytes = self.outbox.written_bytes - transport.get_write_buffer_size()
        return self.accepted_bytes

    @property
    def cause_name(self) -> str:
        """Why it closed, as in `closes`; empty while it is open."""
        return self.cause.name if self.cause is not None else ""

    def keep_place(self) -> None:
        """Give way to nobody from now on: the client has proved who it is."""
        self._server.keep_place(self)

    def wake_at(self, due: float) -> None:
        """Have deadlines checked at this time."""
        self._server.wheel.schedule(self, due)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._server.limits.max_outbox_bytes)
        now = self._server.clock()
        self._received_at = self.written_at = now
        self._deadline = now + self._server.limits.handshake_timeout_s
        if not self._server.admit(self):
            self._transport.abort()
            return
        self.wake_at(self._deadline)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._received_at = self._server.clock()
        self.sample_accepted()
        if self._phase is _Phase.HANDSHAKE:
            self._receive_request(data)
        elif self.handler is not None:
            protocol = self._borrow_protocol()
            protocol.receive_data(data)
            self._take_events(protocol)

    def eof_received(self) -> None:
        """See asyncio; the transport then closes itself."""
        self.sample_accepted()
        if self._phase is _Phase.HANDSHAKE:
            refusal = self._opening.receive_eof() if self._opening is not None else None
            if refusal is not None:
                self._refuse_request(refusal)
            return
        self._borrow_protocol().receive_eof()
        if self._phase is _Phase.OPEN:
            # Bytes that the client has not taken keep the transport open; nothing more may be sent over it.
            self._begin_closing(None)

    def pause_writing(self) -> None:
        """See asyncio."""
        self.outbox.paused = True
        self.outbox.stalled(self._server.clock(), self._transport_bytes())
        self.wake_at(self._server.clock() + STALL_CHECK_S)

    def resume_writing(self) -> None:
        """See asyncio."""
        self.outbox.paused = False
        self._server.plan_flush(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """See asyncio."""
        received = self._protocol.close_rcvd if self._protocol is not None else None
        if self.cause is None and self.handler is not None:
            polite = received is not None and received.code in {CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY}
            self.cause = closes.CLIENT_DISCONNECTED if polite else closes.CONNECTION_LOST
        self._phase = _Phase.LOST
        self.outbox.discard()
        self._server.forget(self)
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.lost()

    # What the server calls

    def flush(self, now: float) -> None:
        """Hand everything that waits to the transport in one write."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._phase is _Phase.CLOSING:
            self.outbox.paused = False  # the last words go out however full the transport is
        data = self.outbox.take()
        if data:
            if len(data) > self._protocol_bytes:
                self.written_at = now
            self._protocol_bytes = 0
            transport.write(data)
        if self._held_for_room and not self.outbox.refuses_input:
            self._held_for_room = False
            self.release_input()
        if self._close_after_flush:
            transport.close()
        elif self.handler is not None and self.outbox.room_bytes:
            self.handler.room_freed()

    def check_deadlines(self, now: float) -> None:
        """Do what is due, and plan the next look."""
        if self._phase is _Phase.LOST or self._transport is None:
            return
        if self._phase is not _Phase.OPEN:
            if now >= self._deadline:
                self._run_out_of_time()
            else:
                self.wake_at(self._deadline)
            return
        handler = cast(Handler, self.handler)
        due = handler.check_deadlines(now)
        if self.outbox.stalled(now, self._transport_bytes()):
            handler.refuse(closes.SLOW_CONSUMER)
        elif self.outbox.paused:
            due = min(due, now + STALL_CHECK_S)
        if handler.wants_pings:
            due = min(due, self._ping(now, handler))
        if self._phase is _Phase.OPEN:
            self.wake_at(due)

    def give_way(self) -> None:
        """Go at once, whatever the client does; if its WebSocket is open, with a word why."""
        if self.handler is not None:
            self.handler.refuse(closes.GAVE_WAY)
            self.flush(self._server.clock())
        if self._transport_bytes():
            self.abort()
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the socket."""
        if self._transport is not None:
            self._transport.abort()

    # Steps

    def _transport_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _ping(self, now: float, handler: Handler) -> float:
        interval = self._server.limits.ping_interval_s
        due = max(self._received_at, self._pinged_at) + interval
        if now < due:
            return due
        if self._pinged_at > self._received_at:
            handler.refuse(closes.NO_PONG)
        else:
            self._pinged_at = now
            protocol = self._borrow_protocol()
            protocol.send_ping(b"")
            self._queue_protocol_writes(protocol)
            self._return_protocol(protocol)
        return now + interval

    def _borrow_protocol(self) -> Protocol:
        protocol = self._protocol
        if protocol is None:
            protocol = self._protocol = self._server.protocols.lend()
        return protocol

    def _return_protocol(self, protocol: Protocol) -> None:
        if self._phase is _OPEN and self._server.protocols.give_back(protocol):
            self._protocol = None

    def _receive_request(self, data: bytes) -> None:
        opening = self._opening
        if opening is None:
            opening = self._opening = self._server.new_opening()
        refusal = opening.receive(data)
        if refusal is not None:
            self._refuse_request(refusal)
        else:
            self._take_events(opening.protocol)

    def _take_events(self, protocol: Protocol) -> None:
        if protocol.writes and protocol.state is State.OPEN:
            # Pongs go before what the handler answers to the same bytes: whoever pings measures this gateway by them.
            self._queue_protocol_writes(protocol)
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._receive_frame(protocol, event)
            elif isinstance(event, Request) and self._opening is not None:
                self._answer_request(self._opening, event)
        if self.handler is not None:
            self._finish_receiving(protocol)

    def _answer_request(self, opening: Opening, request: Request) -> None:
        response = self._server.answer_handshake(opening, request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse_request(response)
            return
        protocol = opening.protocol
        try:
            self.handler = self._server.open_handler(self, request, protocol.subprotocol)
        except Exception:
            _log.exception("a connection cannot be served")
            self._refuse_request(opening.reject(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected, see the gateway's log"))
            return
        self._opening, self._protocol, self._phase = None, protocol, _Phase.OPEN
        protocol.send_response(response)
        self._queue_protocol_writes(protocol)
        self.wake_at(self._server.clock())

    def _refuse_request(self, response: Response) -> None:
        self._server.count_refusal(response)
        self._opening = None
        self._phase = _Phase.CLOSING
        self.outbox.add(response.serialize())
        self._close_after_flush = True
        self.flush(self._server.clock())

    def _run_out_of_time(self) -> None:
        if self._opening is not None:
            self._refuse_request(self._opening.time_out())
            return
        if self._phase is _Phase.HANDSHAKE:
            self._server.count_cut(Cut.SILENT)
        self.abort()

    def _receive_frame(self, protocol: Protocol, frame: Frame) -> None:
        opcode = frame.opcode
        if self._phase is not _Phase.OPEN or opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            return
        if opcode is not Opcode.CONT:
            self._opcode = opcode
        data = cast(bytearray, frame.data)
        if self._opcode is Opcode.TEXT and not self._is_text(data, fin=frame.fin):
            protocol.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            self._begin_closing(closes.WEBSOCKET_ERROR)
            return
        cast(Handler, self.handler).received(data)

    def _is_text(self, data: bytearray, *, fin: bool) -> bool:
        if self._decoder is None:
            if data.isascii():
                return True
            self._decoder = _UTF8()
        try:
            self._decoder.decode(data, fin)
        except UnicodeDecodeError:
            return False
        if fin:
            self._decoder = None
        return True

    def _finish_receiving(self, protocol: Protocol) -> None:
        if self._phase is _Phase.OPEN and protocol.state is not State.OPEN:
            error = protocol.parser_exc
            if isinstance(error, PayloadTooBig):
                cast(Handler, self.handler).refuse(closes.TOO_LARGE)
            else:
                self._begin_closing(closes.WEBSOCKET_ERROR if error is not None else None)
        self._queue_protocol_writes(protocol)
        # After the protocol's own answers: a flood of pings makes pongs as a flood of frames makes receipts.
        if self.outbox.refuses_input and not self._held_for_room:
            self._held_for_room = True
            self.hold_input()
        self._return_protocol(protocol)

    def _begin_closing(self, close: Close | None) -> None:
        self._phase = _Phase.CLOSING
        self.cause = self.cause or close
        self._deadline = self._server.clock() + self._server.limits.close_timeout_s
        self.wake_at(self._deadline)
        if self._input_holds:
            self._input_holds = 1
            self.release_input()  # the client's own close frame must be heard
        if self.handler is not None:
            self.handler.closing()

    def _queue_protocol_writes(self, protocol: Protocol) -> None:
        for data in protocol.data_to_send():
            if data:
                self.outbox.add(data)
                self._protocol_bytes += len(data)
            else:
                self._close_after_flush = True
            self._server.plan_flush(self)
