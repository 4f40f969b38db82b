"""Which socket a full gateway evicts: the oldest unauthenticated one. No I/O, no clock.

A gateway is full when it has too many sockets, or when those that are unauthenticated have sent too much together.

Idle unauthenticated sockets are cheap for an attacker, so they are evicted first: sockets that never complete their
HTTP request, and WebSockets without CONNECT. Enough of them would keep everybody else out. An honest client passes
these stages as fast as its messages travel, so it is rarely the oldest. An authenticated client is never evicted.
"""

from collections import OrderedDict
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class Stage(Enum):
    """How far a socket has come."""

    NONE = auto()
    """Not yet in the queue, or removed from it."""
    HANDSHAKE = auto()
    """Its HTTP request is incomplete, or was refused."""
    UNAUTHENTICATED = auto()
    """Its WebSocket is open, and its client is not authenticated yet."""
    AUTHENTICATED = auto()
    """Its client is authenticated."""


class Evictable(Protocol):
    """A socket in the queue. It holds its own stage, so that an authenticated one needs no memory here."""

    stage: Stage
    """NONE at first. Afterwards only the queue sets it."""


S = TypeVar("S", bound=Evictable)


class EvictionQueue(Generic[S]):
    """All sockets, by stage and age. Every call takes constant time, however many sockets there are."""

    __slots__ = ("_authenticated", "_handshakes", "_unauthenticated")

    def __init__(self) -> None:
        # OrderedDict, because finding the oldest key of a dict skips over all deleted ones.
        self._handshakes: OrderedDict[S, None] = OrderedDict()
        self._unauthenticated: OrderedDict[S, float] = OrderedDict()
        """When each WebSocket opened."""
        self._authenticated = 0

    @property
    def connections(self) -> int:
        """Number of WebSockets that are open or closing."""
        return len(self._unauthenticated) + self._authenticated

    def add(self, socket: S) -> None:
        """Add a new socket, in stage HANDSHAKE."""
        socket.stage = Stage.HANDSHAKE
        self._handshakes[socket] = None

    def open(self, socket: S, now: float) -> None:
        """Move a socket whose handshake was accepted to stage UNAUTHENTICATED."""
        self.remove(socket)
        socket.stage = Stage.UNAUTHENTICATED
        self._unauthenticated[socket] = now

    def mark_authenticated(self, socket: S) -> None:
        """Move a socket to stage AUTHENTICATED. A socket that was removed stays removed."""
        if socket.stage is Stage.UNAUTHENTICATED:
            self.remove(socket)
            socket.stage = Stage.AUTHENTICATED
            self._authenticated += 1

    def remove(self, socket: S) -> None:
        """Remove a socket that is gone or evicted. Removing it twice is allowed."""
        if socket.stage is Stage.HANDSHAKE:
            del self._handshakes[socket]
        elif socket.stage is Stage.UNAUTHENTICATED:
            del self._unauthenticated[socket]
        elif socket.stage is Stage.AUTHENTICATED:
            self._authenticated -= 1
        socket.stage = Stage.NONE

    def oldest_handshake(self) -> S | None:
        """Return the socket whose request has been incomplete longest, or None."""
        return next(iter(self._handshakes), None)

    def oldest_unauthenticated(self, *, opened_by: float) -> S | None:
        """Return the WebSocket that has been unauthenticated longest, if it opened no later than `opened_by`."""
        socket = next(iter(self._unauthenticated), None)
        return socket if socket is not None and self._unauthenticated[socket] <= opened_by else None


class UnauthenticatedInput(Generic[S]):
    """How many bytes unauthenticated sockets have sent. As long as they are unauthenticated, these may be in memory."""

    __slots__ = ("_bytes", "_held", "total_bytes")

    def __init__(self) -> None:
        self._bytes: OrderedDict[S, int] = OrderedDict()
        """In the order of their first bytes."""
        self._held: dict[S, int] = {}
        self.total_bytes = 0

    def add(self, socket: S, size: int) -> int:
        """Count bytes of a socket. Return how many it has sent."""
        sent = self._bytes[socket] = self._bytes.get(socket, 0) + size
        self.total_bytes += size
        return sent

    def hold(self, socket: S, size: int) -> None:
        """Count bytes of its HTTP request that a WebSocket keeps. They count in the total alone."""
        self._bytes.setdefault(socket, 0)
        self._held[socket] = self._held.get(socket, 0) + size
        self.total_bytes += size

    def remove(self, socket: S) -> None:
        """Remove a socket that is authenticated, gone or evicted. Removing it twice is allowed."""
        self.total_bytes -= self._bytes.pop(socket, 0) + self._held.pop(socket, 0)

    def oldest(self) -> S | None:
        """Return the socket that began to send first, or None."""
        return next(iter(self._bytes), None)
