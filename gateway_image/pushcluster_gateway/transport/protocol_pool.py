"""A pool of websockets' `Protocol` objects. A connection borrows one only while it holds part of a message.

A protocol takes kilobytes: two generators, a reader, lists, and after a handshake the request with all its headers.
Between two messages it holds nothing of its connection. So an idle connection does not need one.
"""

from logging import Logger
from types import GeneratorType
from typing import Final, cast

from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

MAX_IDLE_PROTOCOLS: Final = 256
"""Protocols that wait in the pool; about 2 KB each."""


class ProtocolPool:
    """Protocols that no connection uses at the moment."""

    def __init__(self, *, max_size: int, logger: Logger) -> None:
        """`max_size` bounds one message, in bytes."""
        self._max_size = max_size
        self._logger = logger
        self._idle: list[Protocol] = []

    def __len__(self) -> int:
        return len(self._idle)

    def lend(self) -> Protocol:
        """Return a protocol in the state of an open connection between two messages."""
        return self._idle.pop() if self._idle else self._build()

    def give_back(self, protocol: Protocol) -> bool:
        """Take a protocol back and return True, or return False when it still holds something of its connection."""
        if not is_between_messages(protocol):
            return False
        # The protocol of a handshake is not reused, because it holds the request and other data of its connection.
        if not isinstance(protocol, ServerProtocol) and len(self._idle) < MAX_IDLE_PROTOCOLS:
            self._idle.append(protocol)
        else:
            dismiss(protocol)
        return True

    def _build(self) -> Protocol:
        return Protocol(Side.SERVER, state=State.OPEN, max_size=self._max_size, logger=self._logger)


def dismiss(protocol: Protocol) -> None:
    """End a protocol that nobody uses any more, so that it is freed at once.

    Its parser is a generator that refers to it, and so does the traceback of an error that it keeps. Left alone, these
    are cycles, which only a search by the garbage collector frees.
    """
    cast("GeneratorType[None, None, None]", protocol.parser).close()
    protocol.parser_exc = None
    if isinstance(protocol, ServerProtocol):
        protocol.handshake_exc = None


def is_between_messages(protocol: Protocol) -> bool:
    """Return whether an open connection's protocol holds no part of a message, no event and nothing to write."""
    if protocol.state is not State.OPEN or protocol.current_size is not None:
        return False
    if protocol.events or protocol.writes:
        return False
    # An empty buffer may still be inside a frame. Only between two frames does the parser wait in `at_eof`.
    waits_in = cast("GeneratorType[None, None, None]", protocol.parser)
    while isinstance(inner := waits_in.gi_yieldfrom, GeneratorType):
        waits_in = inner
    return waits_in.gi_code is StreamReader.at_eof.__code__
