"""One WebSocket between a gateway and a device: its transport, the kernels' buffers, and the network.

The gateway's kernel keeps what it has taken until the client's TCP acknowledges it. That acknowledges what has arrived
and fits into the window of the client's kernel, also where nobody reads it. When the network breaks, what has not
arrived never does, and acknowledgements on their way back are lost: the gateway's kernel knows of a part of them.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pushcluster_gateway.transport.outbox import Outbox
from tests.simulation.programs import Gateway

if TYPE_CHECKING:
    import random

    from tests.simulation.clients import Device

TRANSPORT_HIGH_BYTES: Final = 300
"""Past it the transport tells the gateway to pause."""


class Socket:
    """A gateway's side of one connection: implements `ports.Socket` over a simulated network."""

    def __init__(self, world: Any, gateway: Gateway, device: "Device", number: int, kernel_bytes: int) -> None:
        self.outbox = Outbox(world.limits)
        self.written_at = 0.0
        self.number = number
        self.cause_name = ""
        self.handler: Any = None
        self.open = True
        """The gateway's side has not closed."""
        self._world = world
        self.gateway = gateway
        self._owner = gateway.owner
        self._device = device
        self._kernel_free = kernel_bytes
        self._window = int(kernel_bytes * world.acknowledging.choice((0.1, 0.5, 1.0, 1.0)))
        """How many bytes the client's kernel takes that its program does not read."""
        self.dark = False
        """The network is broken: nothing arrives any more on either side, and so nobody is told."""
        self._transport = bytearray()
        self._on_the_way: deque[bytes] = deque()
        """Taken by the kernel and not yet read by the client."""
        self._arrives = self._reaches = 0.0
        self._arrivals: deque[tuple[float, int]] = deque()
        """When what the kernel has taken arrives, and how many bytes have then."""
        self._taken = self._arrived = self._read = self._acknowledged = 0
        self._input: list[bytes] = []
        self._holds = 0
        self._accepted = 0
        self._last_words = False

    def __hash__(self) -> int:
        return self.number

    # ports.Socket

    def send(self, data: bytes) -> None:
        if self.open and not self._last_words and self.outbox.add(data):
            self._world.loop.call_soon(self._flush)

    def send_message(self, head: bytes, tail: bytes) -> None:
        if self.open and not self._last_words and self.outbox.add_message(head + tail):
            self._world.loop.call_soon(self._flush)

    def close(self, close: Any) -> None:
        if self.open and not self._last_words:
            self.cause_name = close.name
            self._last_words = True
            self.handler.closing()
            self._world.loop.call_soon(self._flush)

    def hold_input(self) -> None:
        self._holds += 1

    def release_input(self) -> None:
        if self._holds:
            self._holds -= 1
            while self._input and not self._holds and self.open:
                self.handler.received(self._input.pop(0))

    def mark_authenticated(self) -> None: ...

    def sample_accepted(self) -> int:
        if self.open:
            self._accepted = self._count_acknowledged()
        return self._accepted

    def wake_at(self, due: float) -> None:
        return

    # The gateway's event loop

    def abort(self) -> None:
        """Cut the socket at the gateway; the client notices."""
        if self.open:
            self.sample_accepted()
            self.open = False
            self.outbox.discard()
            self.gateway.forget(self)
            self._reach_client(self._device.closed, self)
            if self.handler is not None and not self._owner.dead:
                self.handler.lost()

    def reset(self) -> None:
        """Cut the socket, and what the client has not read with it."""
        self.open = False
        self.gateway.forget(self)
        if not self.dark:
            self._device.disconnect_from(self)

    def _flush(self) -> None:
        if not self.open or self._owner.dead:
            return
        if self._last_words:
            self.outbox.paused = False
        self._transport += self.outbox.take()
        self._pump()
        if self._last_words and not self._transport:
            self.abort()
        elif self.outbox.free_bytes and not self._last_words:
            self.handler.outbox_drained()

    def _pump(self) -> None:
        size = min(self._kernel_free, len(self._transport))
        if size:
            chunk = bytes(self._transport[:size])
            del self._transport[:size]
            self._kernel_free -= size
            self._on_the_way.append(chunk)
            self._reach_client(self._device.readable, self)
            self._taken += size
            self._arrivals.append((self._arrives, self._taken))
        if len(self._transport) > TRANSPORT_HIGH_BYTES:
            self.outbox.paused = True
        elif self.outbox.paused and len(self._transport) <= TRANSPORT_HIGH_BYTES // 4:
            self.outbox.paused = False
            self._world.loop.call_soon(self._flush)

    def _count_acknowledged(self) -> int:
        """Return how many bytes the gateway's kernel knows to be acknowledged: all that SIOCOUTQ does not count."""
        if not self.dark:
            arrivals, now = self._arrivals, self._world.loop.time()
            while arrivals and arrivals[0][0] <= now:
                self._arrived = arrivals.popleft()[1]
            self._acknowledged = min(self._arrived, self._read + self._window)
        return self._acknowledged

    def _reach_client(self, call: Callable[..., None], *args: Any) -> None:
        loop = self._world.loop
        self._arrives = max(self._arrives, loop.time() + self._world.latency())
        loop.run_as(self._world.owner, loop.call_at, self._arrives, call, *args)

    def _receive(self, data: bytes) -> None:
        if not self.open or self._owner.dead:
            return
        if self._holds:
            self._input.append(data)
        else:
            self.handler.received(data)

    def _freed(self, size: int) -> None:
        self._kernel_free += size
        if self.open and not self._owner.dead:
            self._pump()
            if self._last_words:
                self._flush()

    # The client's side

    def client_sends(self, data: bytes) -> None:
        if self.dark:
            return
        loop = self._world.loop
        self._reaches = max(self._reaches, loop.time() + self._world.latency())
        loop.run_as(self._owner, loop.call_at, self._reaches, self._receive, data)

    def client_reads(self) -> bytes:
        if self.dark or not self._on_the_way:
            return b""
        chunk = self._on_the_way.popleft()
        self._read += len(chunk)
        loop = self._world.loop
        loop.run_as(self._owner, loop.call_later, self._world.latency(), self._freed, len(chunk))
        return chunk

    def take_unread(self) -> bytes:
        """Return what counts as delivered and no client will ever read: the acknowledged part of it."""
        unread = b"".join(self._on_the_way)
        self._on_the_way.clear()
        return unread[: max(0, self._acknowledged - self._read)]

    def cut(self, noticed_after_s: float) -> None:
        """Nothing arrives from here on; the gateway notices later."""
        if self.dark:
            return
        drawn: random.Random = self._world.acknowledging
        heard = drawn.choice((0.0, drawn.random(), 1.0))
        self._acknowledged = self._accepted + int(heard * (self._count_acknowledged() - self._accepted))
        self.dark = True
        loop = self._world.loop
        loop.run_as(self._owner, loop.call_later, noticed_after_s, self.abort)
