"""The WebSocket protocols of websockets, lent to connections for as long as they hold something of them.

A protocol costs kilobytes: two generators, a reader, lists, and after a handshake the request with all its headers.
Between two messages it holds nothing of its connection, and that is where an idle connection stands.
"""

from logging import Logger
from types import GeneratorType
from typing import Final, cast

from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

MAX_IDLE_PROTOCOLS: Final = 256
"""That wait for the next connection; about 2 KB each."""


class ProtocolPool:
    """Protocols after the handshake, that belong to no connection."""

    def __init__(self, *, max_size: int, logger: Logger) -> None:
        """`max_size` is of one message, in bytes."""
        self._max_size = max_size
        self._logger = logger
        self._idle: list[Protocol] = []

    def __len__(self) -> int:
        return len(self._idle)

    def lend(self) -> Protocol:
        """Return a protocol of an open connection that has received nothing of the next message."""
        return self._idle.pop() if self._idle else self._build()

    def give_back(self, protocol: Protocol) -> bool:
        """Take a protocol back if it holds nothing of its connection; False: the connection has to keep it."""
        if not is_between_messages(protocol):
            return False
        # The protocol of a handshake holds the request, and whatever else websockets finds worth keeping.
        if not isinstance(protocol, ServerProtocol) and len(self._idle) < MAX_IDLE_PROTOCOLS:
            self._idle.append(protocol)
        return True

    def _build(self) -> Protocol:
        return Protocol(Side.SERVER, state=State.OPEN, max_size=self._max_size, logger=self._logger)


def is_between_messages(protocol: Protocol) -> bool:
    """Tell whether an open connection's protocol has received whole messages, and everything was taken from it."""
    if protocol.state is not State.OPEN or protocol.current_size is not None:
        return False
    if protocol.events or protocol.writes:
        return False
    # An empty buffer may still be the middle of a frame; the parser waits for either more or the end between two only.
    waits_in = cast("GeneratorType[None, None, None]", protocol.parser)
    while isinstance(inner := waits_in.gi_yieldfrom, GeneratorType):
        waits_in = inner
    return waits_in.gi_code is StreamReader.at_eof.__code__
