"""The listening side: handshakes, limits that hold before anybody is known, the wheel, and the flush of each tick."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from websockets.http11 import Request, Response
from websockets.typing import Origin

from pushcluster_gateway.admission import Admission, Cut
from pushcluster_gateway.handshake import Handshake, Opening
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.places import Places
from pushcluster_gateway.ports import Handler
from pushcluster_gateway.protocols import ProtocolPool
from pushcluster_gateway.websocket import WebSocketConnection
from pushcluster_gateway.wheel import Wheel

WHEEL_TICK_S: Final = 0.25
WHEEL_SLOTS: Final = 512
"""A turn takes 128 s: longer than any heart-beat."""
MAX_HANDSHAKES: Final = 1_000
"""Sockets beyond the connections that a pod may have: in their handshake, or about to get a refusal."""
ABORT_S: Final = 1.0
"""How long the event loop may take to tell of sockets that were cut."""
BACKLOG: Final = 1_024

# websockets tells of every connection that opens and closes.
_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)


HandlerFactory = Callable[[WebSocketConnection, Handshake], Handler]


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
        """`clock` gives the seconds of the event loop. Origins as browsers send them; without any, all are allowed."""
        self.limits = limits
        self.clock = clock
        self.wheel: Wheel[WebSocketConnection] = Wheel(tick_s=WHEEL_TICK_S, slots=WHEEL_SLOTS, now=clock())
        self.protocols = ProtocolPool(max_size=limits.max_frame_bytes, logger=_log)
        self.draining = False
        """Whether handshakes are refused because the process ends."""
        self.connections: set[WebSocketConnection] = set()
        """Every socket, also those in their handshake or refused."""
        self._places: Places[WebSocketConnection] = Places()
        self._admission = admission
        # A request without Origin comes from no browser, so no foreign page can have made it.
        self._origins = [*map(Origin, allowed_origins), None] if allowed_origins else None
        self._metrics = metrics
        self._handler_factory = handler_factory
        self._to_flush: list[WebSocketConnection] = []
        self._listener: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: WebSocketConnection(self), host, port, backlog=BACKLOG)
        self._tick()
        return int(self._listener.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Take no new sockets; those that are open stay."""
        if self._listener is not None:
            self._listener.close()

    async def close(self) -> None:
        """Cut whatever is still open."""
        self.stop_listening()
        for connection in list(self.connections):
            connection.abort()
        if self._ticker is not None:
            self._ticker.cancel()
        await self.wait_empty(within_s=ABORT_S)

    async def wait_empty(self, within_s: float) -> None:
        """Return when no socket is open any more, or when the time is over."""
        if not self.connections:
            return
        self._emptied = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._emptied.wait()

    # What connections call

    def new_opening(self) -> Opening:
        """Return what takes one request to open a WebSocket."""
        return Opening(self.limits, self._origins, _log)

    def admit(self, connection: WebSocketConnection) -> bool:
        """Note a new socket, for which the oldest that still say nothing give way; False when all are proven."""
        if len(self.connections) >= self._admission.max_connections + MAX_HANDSHAKES:
            oldest = self._places.oldest_handshake() or self._oldest_unproven()
            if oldest is None:
                self.count_cut(Cut.FULL)
                return False
            self._give_up(oldest)
        self.connections.add(connection)
        self._places.arrive(connection)
        return True

    def keep_place(self, connection: WebSocketConnection) -> None:
        """The connection's client has proved who it is."""
        self._places.prove(connection)

    def forget(self, connection: WebSocketConnection) -> None:
        """The socket is gone."""
        self.connections.discard(connection)
        self._places.leave(connection)
        self.wheel.cancel(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.set()
        if connection.cause is not None:
            self._metrics.closes[connection.cause.name] += 1

    def answer_handshake(self, opening: Opening, request: Request) -> Response:
        """Accept or refuse a WebSocket handshake."""
        # First, so that what is no handshake, or comes from a foreign page, takes nothing from the rate.
        accepted = opening.accept(request)
        if accepted.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return accepted
        # Sockets that only wait for their refusal take nobody's place: else a storm would keep itself out.
        taken = self._places.connections - (self._oldest_unproven() is not None)
        refusal = self._admission.refuse(self.clock(), connections=taken, draining=self.draining)
        if refusal is None:
            return accepted
        self._metrics.admissions_refused[refusal.cause] += 1
        response = opening.reject(HTTPStatus.SERVICE_UNAVAILABLE, f"{refusal.reason}, try again")
        response.headers["Retry-After"] = str(refusal.retry_after_s)
        return response

    def count_refusal(self, response: Response) -> None:
        """A request was refused."""
        self._metrics.handshakes_refused[str(response.status_code)] += 1

    def count_cut(self, cut: Cut) -> None:
        """A socket ended without an answer."""
        self._metrics.handshakes_cut[cut] += 1

    def open_handler(self, connection: WebSocketConnection, request: Request, subprotocol: str | None) -> Handler:
        """Return what speaks over a socket that has just opened."""
        handler = self._handler_factory(connection, Handshake.of(request, subprotocol))
        if self._places.connections >= self._admission.max_connections:
            oldest = self._oldest_unproven()
            if oldest is not None:
                self._give_up(oldest)
        self._places.open(connection, self.clock())
        return handler

    def plan_flush(self, connection: WebSocketConnection) -> None:
        """Have the connection flushed at the end of this tick of the event loop, together with all others."""
        self._to_flush.append(connection)
        if len(self._to_flush) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _oldest_unproven(self) -> WebSocketConnection | None:
        return self._places.oldest_unproven(opened_by=self.clock() - self.limits.min_connect_s)

    def _give_up(self, connection: WebSocketConnection) -> None:
        if connection.handler is None:
            self.count_cut(Cut.CROWDED)
        self._places.leave(connection)  # at once: the event loop tells of its end later, and many may come until then
        connection.give_way()

    def _flush(self) -> None:
        connections, self._to_flush = self._to_flush, []
        now = self.clock()
        for connection in connections:
            connection.flush(now)

    def _tick(self) -> None:
        # Armed first: one connection that fails must not end the deadlines of all others.
        self._ticker = asyncio.get_running_loop().call_later(WHEEL_TICK_S, self._tick)
        now = self.clock()
        for connection in self.wheel.advance(now):
            try:
                connection.check_deadlines(now)
            except Exception:
                _log.exception("a connection's deadlines cannot be checked")
                connection.abort()
