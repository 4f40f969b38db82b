"""The API's sockets: limits on size and time that apply before a client has shown a key."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from pushcluster_dispatcher.api.eviction import EvictionQueue
from pushcluster_dispatcher.api.listener import Listener
from pushcluster_dispatcher.api.problems import Problem, build_problem, encode_response

MAX_CONNECTIONS: Final = 1_000
"""How many connections one dispatcher's API has open. For a further one, another is closed (`eviction.py`).

If all of them work for clients with a key, the new one is answered 503 and closed.
"""
STRANGERS: Final = 250
"""How many connections without a key are kept before they are closed sooner than idle ones with a key."""
MAX_HEAD_BYTES: Final = 16_384
"""Limit for the request line and headers of one request."""
MAX_LINE_BYTES: Final = 8_190
"""Limit for the target, and for the value of each header, of a request."""
MAX_HEADERS: Final = 128
IDLE_TIMEOUT_S: Final = 30.0
"""A connection that sends no complete request head within this time is closed."""
LINGERING_S: Final = 2.0
"""How long the rest of a refused body is read and discarded, so that its sender sees the answer."""


class CutCause(StrEnum):
    """Why a connection ended before it was served."""

    CROWDED = "crowded"
    """It gave way to a newer one."""
    FULL = "full"
    """No other could give way to it."""


Screen = Callable[[web.BaseRequest], web.Response | None]
"""Returns the answer to a request that must be refused before aiohttp looks at it; else None."""
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_END_OF_HEAD: Final = b"\r\n\r\n"
_CROWDED: Final = f"this dispatcher has reached its limit of {MAX_CONNECTIONS} connections; try again later"
_TOO_LARGE: Final = f"the request's head is too large; at most {MAX_HEAD_BYTES} bytes are allowed"
_LINE_TOO_LONG: Final = (
    f"the request's target or one of its headers is too long; at most {MAX_LINE_BYTES} bytes are allowed"
)
_TOO_MANY_HEADERS: Final = f"the request has too many headers; at most {MAX_HEADERS} are allowed"


class BoundedConnection(web.RequestHandler):
    """aiohttp's connection, with a limit on request heads. It may have to close for another connection.

    The first request reaches aiohttp only when its head is complete, because its client has not shown a key yet. Of a
    later request, at most MAX_HEAD_BYTES and one more read of the socket are held before it is refused, here or by
    `check_head`.
    """

    __slots__ = ("_eviction_queue", "_gave_way", "_head", "_later_head_bytes", "_latest_body", "_on_key")

    def __init__(
        self,
        manager: web.Server,
        eviction_queue: EvictionQueue["BoundedConnection"],
        on_key: Callable[[], None],
        **limits: Any,
    ) -> None:
        """`on_key` is called when the first request with a valid key has come."""
        super().__init__(manager, **limits)
        self._eviction_queue = eviction_queue
        self._on_key: Callable[[], None] | None = on_key
        self._gave_way = False
        self._head: bytearray | None = bytearray()
        self._later_head_bytes = 0
        self._latest_body: StreamReader | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for the first byte of a request."""
        return self._waiter is not None and not self._waiter.done() and not self._later_head_bytes

    def trust(self) -> None:
        """Note a request with a valid key."""
        self._eviction_queue.trust(self)
        if self._on_key is not None:
            self._on_key()
            self._on_key = None

    def evict(self) -> None:
        """Close for another connection. A client that has begun a request is told why."""
        self._gave_way = True
        if self._head and self.transport is not None:
            self.transport.write(encode_response(HTTPStatus.SERVICE_UNAVAILABLE, _CROWDED))
        self.force_close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        super().connection_made(transport)
        if self._gave_way:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Part of asyncio.Protocol."""
        self._eviction_queue.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        if self._head is not None:
            # RFC 9112, section 2.2: empty lines before a request are ignored.
            self._head = (self._head + data).lstrip(b"\r\n") if not self._head else self._head + data
            end = self._head.find(_END_OF_HEAD)
            head_bytes = len(self._head) if end < 0 else end + len(_END_OF_HEAD)
            if head_bytes > MAX_HEAD_BYTES:
                self._refuse()
            if end < 0 or head_bytes > MAX_HEAD_BYTES:
                return
            data, self._head = bytes(self._head), None
        requests = self._request_count
        in_head = self._latest_body is None or self._latest_body.is_eof()
        super().data_received(data)
        if self._request_count != requests:
            self._later_head_bytes, self._latest_body = 0, self._messages[-1][1]
        elif in_head:
            self._later_head_bytes += len(data)
            if self._later_head_bytes > MAX_HEAD_BYTES:
                self._refuse()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's shape
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, with the first line of aiohttp's message. Further lines would quote what came."""
        detail = (message or "the request cannot be read").strip().partition("\n")[0].rstrip(":")
        if isinstance(exc, LineTooLong):
            status, detail = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _LINE_TOO_LONG
        elif detail == "Too many headers received":
            status, detail = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_MANY_HEADERS
        response = build_problem(HTTPStatus(status), detail)
        response.force_close()
        return response

    def _refuse(self) -> None:
        self._head = bytearray()
        transport = self.transport
        is_answering = self._current_request is not None or self._messages
        if transport is not None and not is_answering:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            transport.write(encode_response(status, _TOO_LARGE))
        self.force_close()


def check_head(request: web.Request) -> None:
    """Raise Problem if the request's head is larger than MAX_HEAD_BYTES."""
    fields = sum(len(name) + len(value) + len(b": \r\n") for name, value in request.raw_headers)
    if len(f"{request.method} {request.raw_path} HTTP/1.1\r\n\r\n") + fields > MAX_HEAD_BYTES:
        raise Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)


def trust(request: web.BaseRequest) -> None:
    """Note that a request showed a valid key. Its connection is then kept longer than others."""
    cast(BoundedConnection, request.protocol).trust()


class _Refusal(asyncio.Protocol):
    """Refuses one connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(encode_response(HTTPStatus.SERVICE_UNAVAILABLE, _CROWDED))
        transport.close()


def _screened(handle: _Handler, screen: Screen) -> _Handler:
    async def handle_request(request: web.BaseRequest) -> web.StreamResponse:
        refusal = screen(request)
        return await handle(request) if refusal is None else refusal

    return handle_request


class ApiServer:
    """Serves an application from `start` to `close`."""

    def __init__(
        self,
        app: web.Application,
        screen: Screen,
        *,
        on_cut: Callable[[CutCause], None],
        on_pause: Callable[[], None],
        shutdown_timeout_s: float,
    ) -> None:
        """`on_cut` is called for each connection that is closed because there are too many.

        `on_pause` is called each time that new connections have to wait (`listener.py`).
        """
        self.app = app
        self._on_cut = on_cut
        self._eviction_queue: EvictionQueue[BoundedConnection] = EvictionQueue()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout_s)
        self._screen = screen
        self._listener = Listener(self._new_connection, on_pause=on_pause)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port. Raises OSError if it is taken."""
        await self._runner.setup()
        server = self._runner.server
        if server is not None:
            server.request_handler = _screened(server.request_handler, self._screen)
        return self._listener.start(host, port)

    async def close(self) -> None:
        """Stop listening. Requests that have begun are still answered."""
        self._listener.close()
        await self._runner.cleanup()

    def _new_connection(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or not self._make_room():
            return _Refusal()
        connection = BoundedConnection(
            server,
            self._eviction_queue,
            self._listener.give_back,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=IDLE_TIMEOUT_S,
            lingering_time=LINGERING_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
        )
        self._eviction_queue.arrive(connection)
        return connection

    def _make_room(self) -> bool:
        """Return whether one more connection is possible. Close another one for it if necessary."""
        if len(self._eviction_queue) < MAX_CONNECTIONS:
            return True
        other = self._eviction_queue.find_one_to_give_way(strangers=STRANGERS)
        if other is None:
            self._on_cut(CutCause.FULL)
            return False
        self._on_cut(CutCause.CROWDED)
        self._eviction_queue.leave(
            other
        )  # now, because the event loop reports its end later, and many may come until then
        other.evict()
        return True
