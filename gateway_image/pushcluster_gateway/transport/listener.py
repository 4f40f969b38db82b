"""Listening sockets, with the options that every accepted socket inherits."""

import socket
from contextlib import ExitStack
from typing import Final

BACKLOG: Final = 4_096
"""Sockets that the kernel holds until they are accepted. It may hold fewer: see net.core.somaxconn."""
UNSENT_BYTES: Final = 16_384
"""TCP_NOTSENT_LOWAT: the kernel takes more for a socket only when fewer bytes than this have not been sent.

Without it the kernel takes up to 4 MB for a client that reads nothing. These would count as the pod's memory, and as
messages that the client has got.
"""


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
