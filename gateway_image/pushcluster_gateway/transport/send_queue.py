"""What the kernel still holds of a socket's output: what its peer has not acknowledged (tcp(7), SIOCOUTQ)."""

import fcntl
import sys
import termios
from asyncio import BaseTransport
from typing import Final

_COUNT: Final = bytes(4)


def count_unacknowledged(transport: BaseTransport) -> int | None:
    """Return how many bytes the kernel has taken and the peer has not acknowledged, or None when it cannot tell.

    This is one system call. The transport's socket must not be closed: its number may belong to another one by then.
    """
    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, _COUNT)
    except (OSError, ValueError, AttributeError):
        return None
    return int.from_bytes(answer, sys.byteorder)
