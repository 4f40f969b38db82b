"""Listening sockets, whose backlog is the waiting room: while the rate of handshakes is used up, nothing is accepted.

A client that waits there costs nothing: no request is read, and none is refused. It waits for as long as it likes.
"""

import asyncio
import logging
import socket
from contextlib import ExitStack
from struct import Struct
from typing import Final, Protocol

BACKLOG: Final = 4_096
"""Sockets that the kernel holds until they are accepted. It may hold fewer: see net.core.somaxconn.

Beyond it the kernel ignores clients, and their kernels try again after 1, 3, 7 s and so on.
"""
UNSENT_BYTES: Final = 16_384
"""TCP_NOTSENT_LOWAT: the kernel takes more for a socket only when fewer bytes than this have not been sent.

Without it the kernel takes up to 4 MB for a client that reads nothing. These would count as the pod's memory, and as
messages that the client has got.
"""
ACCEPTS_AT_ONCE: Final = 16
"""Sockets accepted in one tick of the event loop. The messages of connected clients come in between."""
MIN_PAUSE_S: Final = 0.01
"""The shortest pause between two rounds, so that each round is worth it."""
ERROR_PAUSE_S: Final = 1.0
"""The pause after an error, such as too many open files."""
_GONE_STATES: Final = frozenset({7, 8})
"""TCP_CLOSE and TCP_CLOSE_WAIT: the client has hung up."""
_WAITING: Final = Struct("24xI")
"""`tcpi_unacked` in TCP_INFO. For a listening socket, it is the number of sockets in its backlog."""

_log = logging.getLogger(__name__)


class Gate(Protocol):
    """Decides when sockets are accepted."""

    def wait_s(self) -> float:
        """Return in how many seconds to accept the next socket; 0: now."""

    def accepted(self) -> asyncio.Protocol:
        """Return the protocol of a socket that was accepted."""

    def gone(self) -> None:
        """Note a socket that is not accepted, because its client has hung up."""


class Listener:
    """The listening sockets of one port."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._sockets: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None
        """Ends the current pause."""
        self._crowded = False
        """Whether clients have waited since the backlog was last empty."""
        self._opening: set[asyncio.Task[None]] = set()

    def start(self, host: str, port: int) -> int:
        """Listen and return the port. Raise OSError when the port is in use."""
        self._sockets = bind(host, port)
        self._resume()
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Accept no new sockets, and cut those that wait."""
        self._unwatch()
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    @property
    def waiting(self) -> int:
        """Number of sockets in the backlog."""
        infos = (each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING.size) for each in self._sockets)
        return sum(_WAITING.unpack(info)[0] for info in infos)

    def _resume(self) -> None:
        self._timer = None
        for each in self._sockets:
            asyncio.get_running_loop().add_reader(each.fileno(), self._accept, each)

    def _pause(self, seconds: float) -> None:
        self._unwatch()
        self._crowded = True
        self._timer = asyncio.get_running_loop().call_later(max(seconds, MIN_PAUSE_S), self._resume)

    def _unwatch(self) -> None:
        for each in self._sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            if wait_s := self._gate.wait_s():
                self._pause(wait_s)
                return
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                self._crowded = False
                return
            except OSError as error:
                _log.warning("could not accept a socket", extra={"cause": str(error)})
                self._pause(ERROR_PAUSE_S)
                return
            if self._crowded and _is_gone(accepted):
                accepted.close()
                self._gate.gone()
            else:
                self._open(accepted)

    def _open(self, accepted: socket.socket) -> None:
        accepted.settimeout(0)
        loop = asyncio.get_running_loop()
        protocol = self._gate.accepted()
        task = loop.create_task(_connect(accepted, protocol))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)


async def _connect(accepted: socket.socket, protocol: asyncio.Protocol) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
    except OSError as error:
        accepted.close()
        _log.warning("could not serve a socket", extra={"cause": str(error)})


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket that listens on each address of the host. Raise OSError when the port is in use."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as opened:
        listeners = [
            opened.enter_context(_listen(family, address)) for family, _, _, _, address in dict.fromkeys(found)
        ]
        opened.pop_all()
        return listeners


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.settimeout(0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_gone(accepted: socket.socket) -> bool:
    return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _GONE_STATES
