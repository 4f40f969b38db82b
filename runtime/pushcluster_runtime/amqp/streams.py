"""pika's sockets as transports of the event loop.

pika has a transport of its own, in Python. For each read it makes two system calls and an exception, and for each write
it watches the socket, waits a turn of the event loop, and ends the watch. The event loop's own transport makes one
system call for each, in C. pika still connects the socket, and decides when to close it.

`LoopServices` is what pika calls its I/O services. Of them, only what makes a transport is replaced.
"""

import asyncio
from collections.abc import Callable
from socket import socket
from ssl import SSLContext
from typing import Any, Final, cast

from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter
from pika.adapters.utils.nbio_interface import (
    AbstractIOReference,
    AbstractStreamProtocol,
    AbstractStreamTransport,
)

PAUSE_BYTES: Final = 65_536
"""After a read of at least so many bytes, others have their turn. uvloop reads 256,000 bytes at a time, and would go on
for up to 32 reads: what they bring is for clients, and nothing would be written to them meanwhile."""

OnLinked = Callable[[tuple[AbstractStreamTransport, AbstractStreamProtocol] | BaseException], None]


class LoopServices(_AsyncioIOServicesAdapter):
    """pika's I/O services on asyncio, with the event loop's transports."""

    _loop: asyncio.AbstractEventLoop

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], AbstractStreamProtocol],
        sock: socket,
        on_done: OnLinked,
        ssl_context: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> AbstractIOReference:
        """Link pika's protocol with a transport of the connected socket, after a TLS handshake if there is a context.

        `on_done` is called with (transport, protocol), or with an error. The socket then belongs to the transport.
        """
        # Called by the stream before the first byte arrives, or by the failure to make one.
        tell = _once(on_done)
        linking = self._loop.create_connection(
            lambda: _Stream(self._loop, protocol_factory(), tell),
            sock=sock,
            ssl=ssl_context,
            server_hostname=None if ssl_context is None else server_hostname or "",
        )
        return self._schedule_and_wrap_in_io_ref(linking, tell)

    # Inherited, and not in pika's stubs.
    _schedule_and_wrap_in_io_ref: Callable[..., AbstractIOReference]


class _Stream(asyncio.Protocol):
    """Stands between a transport and pika's protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: AbstractStreamProtocol, on_linked: OnLinked) -> None:
        self._loop = loop
        self._protocol: AbstractStreamProtocol | None = protocol
        self._take: Callable[[bytes], None] = protocol.data_received
        self._on_linked: OnLinked | None = on_linked
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        on_linked, self._on_linked = self._on_linked, None
        if self._protocol is not None and on_linked is not None:
            linked = cast(AbstractStreamTransport, transport)  # pika's interface is modelled after asyncio's
            self._protocol.connection_made(linked)
            on_linked((linked, self._protocol))

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol. An error in pika ends the connection: the event loop closes it, with this error."""
        if len(data) >= PAUSE_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._loop.call_soon(self._transport.resume_reading)
        self._take(data)

    def eof_received(self) -> None:
        """Part of asyncio.Protocol. Nobody would read what is still unsent, so the connection ends at once."""
        if self._protocol is not None:
            self._protocol.eof_received()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol. Afterwards nothing here refers to the connection any more."""
        protocol, self._protocol, self._transport = self._protocol, None, None
        self._take = _drop
        if protocol is not None:
            protocol.connection_lost(exc)


def _once(on_done: OnLinked) -> OnLinked:
    """Return a function that passes on its first call alone."""
    told = False

    def tell(result: tuple[AbstractStreamTransport, AbstractStreamProtocol] | BaseException) -> None:
        nonlocal told
        if not told:
            told = True
            on_done(result)

    return tell


def _drop(_: Any) -> None:
    """Take data of a connection that is lost."""
