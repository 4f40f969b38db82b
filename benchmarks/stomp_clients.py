"""Many STOMP clients in one process, as cheap as possible: pre-encoded frames, one shared read buffer, no parser.

`python -m benchmarks.stomp_clients` runs as a child process (see `child.py`). Its cost is not the product's.
"""

import asyncio
import base64
import os
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from benchmarks.child import Handler, run

STAMP: Final = struct.Struct("!d")
STAMP_MARK: Final = b"~#~"
"""Marks the stamp in a body: 16 hex digits of the publisher's `time.monotonic`, which all processes share."""
STAMP_CHARS: Final = 16
CONNECT_AT_ONCE: Final = 256
FIRST_RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 60.0
_READ_BYTES: Final = 262_144
_BUFFER: Final = memoryview(bytearray(_READ_BYTES))
"""Shared by all clients, because each read is handled before the next one begins."""


def encode_stamp(now: float) -> bytes:
    """Return the mark and the time, as bytes for a body."""
    return STAMP_MARK + STAMP.pack(now).hex().encode()


def split_stamps(data: bytes) -> tuple[list[float], bytes]:
    """Return the times of all stamps, and the rest of the data, which may hold the beginning of another stamp."""
    times: list[float] = []
    position = 0
    while (at := data.find(STAMP_MARK, position)) >= 0:
        begin = at + len(STAMP_MARK)
        position = begin + STAMP_CHARS
        if len(data) < position:
            return times, data[at:]
        times.append(STAMP.unpack(bytes.fromhex(data[begin:position].decode()))[0])
    return times, data[max(position, len(data) - len(STAMP_MARK) + 1) :]


def masked_text(data: bytes) -> bytes:
    """Return a client's text frame with the mask 0, which leaves the data as they are (RFC 6455, section 5.3)."""
    size = len(data)
    if size < 126:
        return struct.pack("!BB4x", 0x81, 0x80 | size) + data
    return struct.pack("!BBH4x", 0x81, 0x80 | 126, size) + data


HEART_BEAT: Final = masked_text(b"\n")


def handshake(path: str, protocol: str = "v12.stomp") -> bytes:
    """Return the HTTP request that opens a WebSocket for this subprotocol."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: benchmark\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


class RawClient(asyncio.BufferedProtocol):
    """One connection. It counts the bytes that it receives, and looks into them only when it waits or observes."""

    __slots__ = ("_collected", "_expected", "_transport", "_waiter", "failed", "latencies", "received_bytes")

    def __init__(self) -> None:
        self.received_bytes = 0
        self.failed = False
        self.latencies: list[float] | None = None
        """Where latencies go. None: do not look for stamps."""
        self._collected = b""
        self._expected: bytes | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's shape
        """See asyncio."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self.received_bytes += nbytes
        if self._expected is not None:
            self._collected += bytes(_BUFFER[:nbytes])
            if self._expected in self._collected:
                self._resolve()
            elif b"ERROR\n" in self._collected or b"HTTP/1.1 4" in self._collected or b"HTTP/1.1 5" in self._collected:
                self.failed = True
                self._resolve()
        elif self.latencies is not None:
            self._note_stamps(bytes(_BUFFER[:nbytes]), self.latencies)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """See asyncio."""
        self.failed = True
        self._resolve()

    async def exchange(self, data: bytes, expect: bytes) -> bytes:
        """Send bytes, and return what arrived up to `expect` and with it.

        Raises ConnectionError if the server refuses.
        """
        if self.failed or self._transport is None:
            raise ConnectionError("the connection is gone")
        self._expected, self._collected = expect, b""
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        await self._waiter
        collected, self._collected, self._expected, self._waiter = self._collected, b"", None, None
        if self.failed:
            raise ConnectionError(f"refused: {collected[:300]!r}")
        return collected

    def send(self, data: bytes) -> None:
        """Send bytes, unless the connection is lost."""
        if self._transport is not None and not self.failed:
            self._transport.write(data)

    def repeat(self, data: bytes, every_s: float) -> None:
        """Send these bytes after this time, and again each time it has passed, until the connection is lost."""
        if not self.failed:
            asyncio.get_running_loop().call_later(every_s, self._send_again, data, every_s)

    def _send_again(self, data: bytes, every_s: float) -> None:
        self.send(data)
        self.repeat(data, every_s)

    def pause(self) -> None:
        """Stop reading."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _resolve(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _note_stamps(self, data: bytes, latencies: list[float]) -> None:
        now = time.monotonic()
        times, self._collected = split_stamps(self._collected + data)
        latencies += [now - stamp for stamp in times]


class Clients:
    """The clients of one process."""

    client_type: type[RawClient] = RawClient

    def __init__(self) -> None:
        self._clients: list[RawClient] = []
        self._latencies: list[float] = []
        self._heart_beat_s = 0

    async def beat(self, *, every_s: int) -> None:
        """Let STOMP clients that connect from now on ask for heart-beats, and send them."""
        self._heart_beat_s = every_s

    async def connect(
        self,
        *,
        ports: list[int],
        users: list[str],
        path: str,
        mode: str,
        host: str = "127.0.0.1",
        vhost: str = "/",
        source: str = "",
    ) -> Mapping[str, Any]:
        """Open a session for each user, on the ports in turn. `mode` is `gateway` or `web_stomp`.

        Returns the seconds until all were subscribed, and the errors. A user of web_stomp is
        `<routing key> <login> <passcode>`. `source` is a local address to connect from; each has its own ports.
        """
        gate = asyncio.Semaphore(CONNECT_AT_ONCE)
        begin = time.monotonic()
        errors: list[str] = []

        async def one(number: int, user: str) -> None:
            async with gate:
                try:
                    client = await self._dial(host, ports[number % len(ports)], source)
                    await self._enter(client, user, path, mode, vhost)
                except OSError as error:
                    errors.append(str(error))

        await asyncio.gather(*(one(number, user) for number, user in enumerate(users)))
        return {"seconds": time.monotonic() - begin, "errors": errors}

    async def herd(self, *, port: int, users: list[str]) -> Mapping[str, Any]:
        """Open a session for each user, all at once. Those that fail try again after a time that doubles, unjittered.

        Return the seconds until all were subscribed, and the number of attempts.
        """
        begin = time.monotonic()
        attempts = 0

        async def one(user: str) -> None:
            nonlocal attempts
            retry_s = FIRST_RETRY_S
            while True:
                attempts += 1
                client: RawClient | None = None
                try:
                    client = await self._dial("127.0.0.1", port, "")
                    await self._enter(client, user, "/ws", "gateway", "/")
                except OSError:
                    if client is not None:
                        client.abort()
                        self._clients.remove(client)
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, MAX_RETRY_S)
                else:
                    return

        await asyncio.gather(*map(one, users))
        return {"seconds": time.monotonic() - begin, "attempts": attempts}

    async def _enter(self, client: RawClient, user: str, path: str, mode: str, vhost: str) -> None:
        """Open the WebSocket, the session and the subscription of one client. Raises ConnectionError."""
        await client.exchange(handshake(path), b"\r\n\r\n")
        connect, subscribe = build_frames(user, mode, vhost, self._heart_beat_s)
        await client.exchange(connect, b"CONNECTED\n")
        if self._heart_beat_s:
            client.repeat(HEART_BEAT, self._heart_beat_s)
        await client.exchange(subscribe, b"receipt-id:r")

    async def _dial(self, host: str, port: int, source: str) -> RawClient:
        local = (source, 0) if source else None
        _, client = await asyncio.get_running_loop().create_connection(self.client_type, host, port, local_addr=local)
        self._clients.append(client)
        return client

    async def connect_bare(self, *, port: int, count: int) -> None:
        """Open connections that only receive."""
        for _ in range(count):
            await self._dial("127.0.0.1", port, "")

    async def observe(self, *, on: bool) -> None:
        """Start or stop looking for stamps in what arrives."""
        self._latencies = []
        for client in self._clients:
            client.latencies = self._latencies if on else None

    async def counts(self) -> Mapping[str, Any]:
        """Return how much has arrived, and how many sockets were lost."""
        return {
            "bytes": sum(client.received_bytes for client in self._clients),
            "stamps": len(self._latencies),
            "failed": sum(client.failed for client in self._clients),
        }

    async def latencies(self) -> list[float]:
        """Return the latencies since `observe`, in seconds."""
        return self._latencies

    async def stall(self, *, numbers: list[int]) -> None:
        """Make these clients stop reading."""
        for number in numbers:
            self._clients[number].pause()

    async def resume(self, *, numbers: list[int]) -> None:
        """Make these clients read again."""
        for number in numbers:
            self._clients[number].resume()

    async def close(self) -> None:
        """Cut all connections."""
        for client in self._clients:
            client.abort()
        self._clients.clear()


def build_frames(user: str, mode: str, vhost: str, heart_beat_s: int) -> tuple[bytes, bytes]:
    """Return CONNECT and SUBSCRIBE as WebSocket messages."""
    credentials, destination = f"login:{user}", "/user/queue/demo"
    if mode == "web_stomp":
        key, login, passcode = user.split(" ")
        credentials, destination = f"login:{login}\npasscode:{passcode}", f"/exchange/amq.topic/{key}"
    heart_beat = f"heart-beat:{heart_beat_s * 1_000},{heart_beat_s * 1_000}"
    connect = f"CONNECT\naccept-version:1.2\nhost:{vhost}\n{credentials}\n{heart_beat}\n\n\0"
    subscribe = f"SUBSCRIBE\nid:sub-0\ndestination:{destination}\nreceipt:r\n\n\0"
    return masked_text(connect.encode()), masked_text(subscribe.encode())


def build_handlers(clients: Clients) -> Mapping[str, Handler]:
    """Return the commands of these clients by name."""
    handlers: list[Callable[..., Awaitable[Any]]] = [
        clients.beat,
        clients.connect,
        clients.connect_bare,
        clients.herd,
        clients.observe,
        clients.counts,
        clients.latencies,
        clients.stall,
        clients.resume,
        clients.close,
    ]
    return {handler.__name__: handler for handler in handlers}


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    return build_handlers(Clients())


if __name__ == "__main__":
    run(make_handlers)
