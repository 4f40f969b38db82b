"""Who gives way when a gateway has no place left: the oldest of those that have not come far. No I/O, no clock.

A socket that never ends its HTTP request, or a WebSocket on which nobody says CONNECT, costs its maker nothing, so
enough of them would keep everybody else out. An honest client is young in these stages, which last no longer than its
messages travel. Whoever has proved who it is never gives way.
"""

from collections import OrderedDict
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class Stage(Enum):
    """How far a socket has come."""

    NONE = auto()
    """Not yet, or not any more, among the places."""
    HANDSHAKE = auto()
    """Its HTTP request is not complete, or was refused."""
    UNAUTHENTICATED = auto()
    """Its WebSocket is open, and nobody has proved who speaks over it."""
    AUTHENTICATED = auto()
    """Its client has proved who it is."""


class Evictable(Protocol):
    """What can have a place: it keeps its own stage, so that whoever has proved itself costs no memory here."""

    stage: Stage
    """NONE at first; the places' own afterwards."""


S = TypeVar("S", bound=Evictable)


class EvictionQueue(Generic[S]):
    """Every call takes the same short time, however many sockets there are."""

    __slots__ = ("_authenticated", "_handshakes", "_unauthenticated")

    def __init__(self) -> None:
        # Ordered, because looking for the oldest in a dict would pass over all that have left it.
        self._handshakes: OrderedDict[S, None] = OrderedDict()
        self._unauthenticated: OrderedDict[S, float] = OrderedDict()
        """Since when."""
        self._authenticated = 0

    @property
    def connections(self) -> int:
        """WebSockets that are open, or close at this moment."""
        return len(self._unauthenticated) + self._authenticated

    def add(self, socket: S) -> None:
        """Note a new socket."""
        socket.stage = Stage.HANDSHAKE
        self._handshakes[socket] = None

    def open(self, socket: S, now: float) -> None:
        """Its handshake was accepted."""
        self.remove(socket)
        socket.stage = Stage.UNAUTHENTICATED
        self._unauthenticated[socket] = now

    def mark_authenticated(self, socket: S) -> None:
        """Its client has proved who it is; without effect on a socket that has left."""
        if socket.stage is Stage.UNAUTHENTICATED:
            self.remove(socket)
            socket.stage = Stage.AUTHENTICATED
            self._authenticated += 1

    def remove(self, socket: S) -> None:
        """It is gone, or given up; twice is allowed."""
        if socket.stage is Stage.HANDSHAKE:
            del self._handshakes[socket]
        elif socket.stage is Stage.UNAUTHENTICATED:
            del self._unauthenticated[socket]
        elif socket.stage is Stage.AUTHENTICATED:
            self._authenticated -= 1
        socket.stage = Stage.NONE

    def oldest_handshake(self) -> S | None:
        """Return whose request has been awaited longest."""
        return next(iter(self._handshakes), None)

    def oldest_unauthenticated(self, *, opened_by: float) -> S | None:
        """Return the WebSocket that has been unproven longest, if it was open at `opened_by`."""
        socket = next(iter(self._unauthenticated), None)
        return socket if socket is not None and self._unauthenticated[socket] <= opened_by else None
