"""Accepts the API's connections. It stops for a while when too many of them have shown no key.

A client without a key costs a connection, a parsed head and an answer. The event loop that does this also sends the
users' messages, so the number of these clients a second is bounded. Those beyond it wait in the kernel's backlog, which
costs nothing. A connection that shows a valid key does not count.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 1_024
"""How many connections the kernel holds until they are accepted. It may hold fewer: see net.core.somaxconn."""
STRANGERS_PER_S: Final = 500.0
"""How many connections that show no key are accepted a second. They take about 7 % of a processor."""
STRANGERS_AT_ONCE: Final = 50
"""How many of them are accepted at once after a pause."""
ACCEPTS_A_TURN: Final = 8
"""How many connections are accepted in one turn of the event loop, so that it soon comes to other work."""
PAUSE_S: Final = 0.02
"""How long no connection is accepted at least, once they have to wait. Shorter pauses would wake the process often."""
NO_RESOURCES_PAUSE_S: Final = 1.0
"""How long no connection is accepted after the system had no resources for one."""

_log = logging.getLogger(__name__)


class StrangerRate:
    """A token bucket for connections that have shown no key. No I/O, no clock."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float) -> None:
        self._at = now
        self._tokens = float(STRANGERS_AT_ONCE)

    def take(self, now: float) -> float:
        """Return 0 if one more connection may be accepted now. Else return after how many seconds to try again."""
        self._tokens = min(STRANGERS_AT_ONCE, self._tokens + (now - self._at) * STRANGERS_PER_S)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / STRANGERS_PER_S

    def give_back(self) -> None:
        """Note that a connection has shown a key after all."""
        self._tokens = min(STRANGERS_AT_ONCE, self._tokens + 1)


class Listener:
    """One listening socket, from `start` to `close`."""

    def __init__(self, new_connection: Callable[[], asyncio.Protocol], *, on_pause: Callable[[], None]) -> None:
        """`on_pause` is called each time that connections have to wait."""
        self._new_connection = new_connection
        self._on_pause = on_pause
        self._loop = asyncio.get_running_loop()
        self._rate = StrangerRate(self._loop.time())
        self._socket: socket.socket | None = None
        self._resuming: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[object]] = set()

    def start(self, host: str, port: int) -> int:
        """Listen, and return the port. Raise OSError if it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._socket.settimeout(0)
        self._loop.add_reader(self._socket, self._accept)
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening. Connections that were accepted stay. To close twice is allowed."""
        if self._socket is not None:
            self._pause()
            self._socket.close()
            self._socket = None
        if self._resuming is not None:
            self._resuming.cancel()

    def give_back(self) -> None:
        """Note that a connection has shown a key, so that it does not count."""
        self._rate.give_back()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            wait_s = self._rate.take(self._loop.time())
            if wait_s:
                self._on_pause()
                self._pause_for(max(wait_s, PAUSE_S))
                return
            if not self._accept_one():
                self._rate.give_back()
                return

    def _accept_one(self) -> bool:
        """Accept a connection that waits. Return False if there is none, or none can be accepted."""
        if self._socket is None:
            return False
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:  # no file descriptors, no memory
            _log.error("the API cannot accept a connection and tries again later", extra={"reason": str(error)})
            self._pause_for(NO_RESOURCES_PAUSE_S)
            return False
        accepted.settimeout(0)
        opening = self._loop.create_task(self._loop.connect_accepted_socket(self._new_connection, accepted))
        self._opening.add(opening)
        opening.add_done_callback(self._on_opened)
        return True

    def _on_opened(self, opening: asyncio.Task[object]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and opening.exception() is not None:
            _log.warning("a connection of the API could not be opened", extra={"reason": str(opening.exception())})

    def _pause_for(self, seconds: float) -> None:
        self._pause()
        self._resuming = self._loop.call_later(seconds, self._resume)

    def _pause(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)

    def _resume(self) -> None:
        self._resuming = None
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._accept)
