"""The listening server: admission, handshakes, eviction, the timer wheel, and the flush of each tick."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from websockets.http11 import Request, Response
from websockets.typing import Origin

from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.transport.admission import Admission, CutCause
from pushcluster_gateway.transport.close_log import CloseLog
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.eviction import EvictionQueue, UnauthenticatedInput
from pushcluster_gateway.transport.handshake import HandshakeResult, ServerHandshake
from pushcluster_gateway.transport.interfaces import SocketHandler
from pushcluster_gateway.transport.listener import Listener
from pushcluster_gateway.transport.outbox import plan_relief
from pushcluster_gateway.transport.outbox_budget import OutboxBudget
from pushcluster_gateway.transport.pending import PendingConnection
from pushcluster_gateway.transport.protocol_pool import ProtocolPool
from pushcluster_gateway.transport.timer_wheel import TimerWheel

WHEEL_TICK_S: Final = 0.25
WHEEL_SLOTS: Final = 512
"""One turn of the wheel takes 128 s, longer than any heart-beat interval that the gateway asks for."""
MAX_HANDSHAKES: Final = 1_000
"""Sockets beyond the maximum number of connections: in their handshake, or about to be refused."""
MAX_WATCHED: Final = 64
"""Connections whose writes are watched for the metric of hops. Most of them are written in the same tick."""
ABORT_S: Final = 1.0
"""How long the event loop may take to report that cut sockets are gone."""

_log = logging.getLogger(__name__)
# websockets logs every connection that opens or closes, so only its warnings are kept.
_websockets_log = logging.getLogger(f"{__name__}.websockets")
_websockets_log.setLevel(logging.WARNING)


HandlerFactory = Callable[[WebSocketConnection, HandshakeResult], SocketHandler]


class WebSocketServer:
    """All sockets of the process."""

    def __init__(
        self,
        *,
        limits: Limits,
        admission: Admission,
        allowed_origins: tuple[str, ...],
        metrics: Metrics,
        clock: Callable[[], float],
        handler_factory: HandlerFactory,
    ) -> None:
        """`clock` returns the seconds of the event loop. `allowed_origins` are as browsers send them; empty: all."""
        self.limits = limits
        self.clock = clock
        self.wheel: TimerWheel[PendingConnection | WebSocketConnection] = TimerWheel(
            tick_s=WHEEL_TICK_S, slots=WHEEL_SLOTS, now=clock()
        )
        self.protocols = ProtocolPool(max_size=limits.max_frame_bytes, logger=_websockets_log)
        self.outboxes = OutboxBudget(limits.max_all_outboxes_bytes)
        """What the outboxes of all connections hold together."""
        self.draining = False
        """Whether handshakes are refused because the process ends."""
        self.connections: set[WebSocketConnection] = set()
        """Connections that are open or closing."""
        self.pending: set[PendingConnection] = set()
        """Sockets in their handshake, or refused and about to close."""
        self._evictions: EvictionQueue[PendingConnection | WebSocketConnection] = EvictionQueue()
        self._input: UnauthenticatedInput[PendingConnection | WebSocketConnection] = UnauthenticatedInput()
        self._admission = admission
        # A request without Origin does not come from a browser, so no foreign page can have caused it.
        self._origins = [*map(Origin, allowed_origins), None] if allowed_origins else None
        self._metrics = metrics
        self._close_log = CloseLog()
        self._handler_factory = handler_factory
        self._to_flush: list[WebSocketConnection] = []
        self._watched: dict[WebSocketConnection, tuple[int, Callable[[], None]]] = {}
        """Who is called when so many bytes of a connection have been written."""
        self._listener = Listener(self)
        self._closed = False
        self._ticker: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port. Raise OSError when the port is in use."""
        port = self._listener.start(host, port)
        self._tick()
        return port

    def stop_listening(self) -> None:
        """Accept no new sockets. Open ones stay."""
        self._listener.close()

    async def close(self) -> None:
        """Stop listening and cut all open sockets."""
        self.stop_listening()
        self._closed = True
        sockets: list[PendingConnection | WebSocketConnection] = [*self.pending, *self.connections]
        for socket in sockets:
            socket.abort()
        if self._ticker is not None:
            self._ticker.cancel()
        await self.wait_empty(within_s=ABORT_S)
        self._log_closes(math.inf)

    async def wait_empty(self, within_s: float) -> None:
        """Return when no socket is open any more, or after `within_s`."""
        if not self.sockets:
            return
        self._emptied = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._emptied.wait()

    @property
    def sockets(self) -> int:
        """Number of open sockets."""
        return len(self.pending) + len(self.connections)

    @property
    def waiting(self) -> int:
        """Number of sockets in the backlog, which wait until they are accepted."""
        return self._listener.waiting

    # What the listener calls

    def wait_s(self) -> float:
        """Return in how many seconds to accept the next socket; 0: now. A server that drains tells all to go."""
        rate = self._admission.rate
        return 0.0 if rate is None or self.draining else rate.wait_s(self.clock())

    def accepted(self) -> PendingConnection:
        """Return the protocol of a socket that was accepted."""
        pending = PendingConnection(self)
        if self._admission.rate is not None:
            self._admission.rate.accepted(pending, self.clock())
        return pending

    def gone(self) -> None:
        """Count a socket whose client had hung up before it was accepted."""
        self.count_cut(CutCause.GONE)

    # What sockets call

    def new_handshake(self) -> ServerHandshake:
        """Return a handshake for one request."""
        return ServerHandshake(self.limits, self._origins, _websockets_log)

    def admit(self, pending: PendingConnection) -> bool:
        """Register a new socket, and evict the oldest unauthenticated one if there are too many.

        Return False when none can be evicted: then the new socket must be cut.
        """
        if self._closed:
            return False
        if self.sockets >= self._admission.max_connections + MAX_HANDSHAKES:
            oldest = self._evictions.oldest_handshake() or self._oldest_unauthenticated()
            if oldest is None:
                self.count_cut(CutCause.FULL)
                return False
            self._evict(oldest)
        self.pending.add(pending)
        self._evictions.add(pending)
        return True

    def count_unauthenticated(self, socket: PendingConnection | WebSocketConnection, size: int) -> int:
        """Count bytes of an unauthenticated socket, and return how many it has sent.

        If all of them together have sent too much, evict those that began first. The socket may be one of them.
        """
        sent = self._input.add(socket, size)
        while self._input.total_bytes > self.limits.max_all_unauthenticated_bytes:
            oldest = self._input.oldest()
            if oldest is None:
                break
            self._evict(oldest)
        return sent

    def hold_request(self, connection: WebSocketConnection, size: int) -> None:
        """Count the HTTP request of an unauthenticated client, which stays in memory."""
        self._input.hold(connection, size)

    def mark_authenticated(self, connection: WebSocketConnection) -> None:
        """Protect the connection from eviction: its client is authenticated."""
        self._evictions.mark_authenticated(connection)
        self._input.remove(connection)
        if self._admission.rate is not None:
            self._admission.rate.authenticated(connection)

    def forget_pending(self, pending: PendingConnection) -> None:
        """Forget the socket: it is gone, or a connection has taken it over."""
        self.pending.discard(pending)
        self._forget(pending)

    def forget(self, connection: WebSocketConnection) -> None:
        """Forget the connection: its socket is gone."""
        self.connections.discard(connection)
        self._watched.pop(connection, None)
        self._forget(connection)
        if connection.cause is not None:
            self._metrics.closes[connection.cause.name] += 1
            self._close_log.note(connection.cause.name)

    def _forget(self, socket: PendingConnection | WebSocketConnection) -> None:
        self._evictions.remove(socket)
        self._input.remove(socket)
        if self._admission.rate is not None:
            self._admission.rate.refused(socket, self.clock())
        self.wheel.cancel(socket)
        if self._emptied is not None and not self.sockets:
            self._emptied.set()

    def answer_handshake(self, pending: PendingConnection, handshake: ServerHandshake, request: Request) -> Response:
        """Accept or refuse a WebSocket handshake."""
        # Checked first, so that an invalid request, or one from a foreign page, pays as a refused client.
        accepted = handshake.accept(request)
        if accepted.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return accepted
        # Sockets that only wait for their refusal do not count. Else a storm of clients would keep itself out.
        taken = self._evictions.connections - (self._oldest_unauthenticated() is not None)
        refusal = self._admission.refuse(connections=taken, draining=self.draining)
        if refusal is None:
            return accepted
        if self._admission.rate is not None:
            self._admission.rate.spent(pending)
        self._metrics.admissions_refused[refusal.cause] += 1
        response = handshake.reject(HTTPStatus.SERVICE_UNAVAILABLE, f"{refusal.reason}, try again")
        response.headers["Retry-After"] = str(refusal.retry_after_s)
        return response

    def count_refusal(self, response: Response) -> None:
        """Count a refused request."""
        self._metrics.handshakes_refused[str(response.status_code)] += 1

    def count_cut(self, cut: CutCause) -> None:
        """Count a socket that ended without an answer."""
        self._metrics.handshakes_cut[cut] += 1

    def open_handler(
        self, pending: PendingConnection, connection: WebSocketConnection, request: Request, subprotocol: str | None
    ) -> SocketHandler:
        """Register a connection whose handshake was accepted, and return its handler."""
        result = HandshakeResult.of(request, subprotocol)
        handler = self._handler_factory(connection, result)
        if self._evictions.connections >= self._admission.max_connections:
            oldest = self._oldest_unauthenticated()
            if oldest is not None:
                self._evict(oldest)
        self.connections.add(connection)
        self._evictions.open(connection, self.clock())
        self._input.hold(connection, len(result.token))
        if self._admission.rate is not None:
            self._admission.rate.opened(pending, connection, self.clock())
        return handler

    def plan_flush(self, connection: WebSocketConnection) -> None:
        """Have the connection flushed at the end of this tick of the event loop, together with all others."""
        self._to_flush.append(connection)
        if len(self._to_flush) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def watch_write(self, connection: WebSocketConnection, on_written: Callable[[], None]) -> None:
        """Call back once all that waits for the connection now has been written.

        This is for samples: nobody is called if the connection is watched already, or if MAX_WATCHED are.
        """
        if len(self._watched) < MAX_WATCHED:
            self._watched.setdefault(connection, (connection.outbox.end_offset, on_written))

    def check_deadlines(self) -> None:
        """Do what is due by now, for all sockets. Log what was closed."""
        now = self.clock()
        for socket in self.wheel.advance(now):
            try:
                socket.check_deadlines(now)
            except Exception:
                _log.exception("could not check a connection's deadlines, so it is cut")
                socket.abort()
        self._log_closes(now)

    def _log_closes(self, now: float) -> None:
        for cause, count in self._close_log.take_due(now).items():
            _log.info("connections closed", extra={"cause": cause, "count": count})

    def relieve_outboxes(self) -> None:
        """Close the clients that have taken nothing for longest, if all outboxes together are full.

        Then wake the clients that had to wait for that, although their own outboxes hold nothing.
        """
        budget = self.outboxes
        if missing := budget.missing_bytes:
            stalled = [each for each in self.connections if each.outbox.paused]
            for connection in plan_relief(stalled, missing):
                connection.evict(close_codes.SLOW_CONSUMER)
        if budget.wanted and budget.free_bytes > 0:
            budget.wanted = False
            for connection in list(self.connections):
                connection.go_on()

    def _oldest_unauthenticated(self) -> PendingConnection | WebSocketConnection | None:
        return self._evictions.oldest_unauthenticated(opened_by=self.clock() - self.limits.min_connect_s)

    def _evict(self, socket: PendingConnection | WebSocketConnection) -> None:
        # Removed now: the event loop reports the end of the socket later, and many sockets may come until then.
        self._evictions.remove(socket)
        self._input.remove(socket)
        socket.evict()

    def _flush(self) -> None:
        connections, self._to_flush = self._to_flush, []
        now, watched = self.clock(), self._watched
        for connection in connections:
            connection.flush(now)
            if watched and connection in watched:
                self._note_written(connection)

    def _note_written(self, connection: WebSocketConnection) -> None:
        end_offset, on_written = self._watched[connection]
        if connection.outbox.written_bytes >= end_offset:
            del self._watched[connection]
            on_written()

    def _tick(self) -> None:
        # Scheduled first, so that an error in one connection cannot stop the deadlines of all others.
        self._ticker = asyncio.get_running_loop().call_later(WHEEL_TICK_S, self._tick)
        self.check_deadlines()
        self.relieve_outboxes()
        if self._admission.rate is not None:
            self._admission.rate.expire(self.clock())
