"""Devices by the hundred in one process: STOMP over a WebSocket that knows only what these tests need."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from pushcluster_contract.ids import StreamId
from tests.support.delivery_log import Seen, Subscribed

DESTINATION: Final = "/queue/chaos"
RETRY_S: Final = 0.3
HANDSHAKE_WITHIN_S: Final = 5.0
ACK_EVERY: Final = 20
"""Messages that a device in ack mode `client` acknowledges together."""

_UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: chaos\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: v12.stomp\r\n\r\n"
)
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A


class WebSocket(asyncio.Protocol):
    """A client's WebSocket (RFC 6455) without fragments; the mask is four zeros, which leaves bytes as they are."""

    def __init__(self, on_frame: Callable[[str], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._open = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(_UPGRADE)

    def send(self, text: str) -> None:
        self._write(_TEXT, text.encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert self.transport is not None
            if not head.startswith(b"HTTP/1.1 101"):
                self.transport.abort()
                return
            self._open = True
            self._buffer = rest
            self._on_frame("OPEN\n\n")
        self._take_frames()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        self._on_lost()

    def _take_frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) >= at + 2:
            size, head = buffer[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
            if len(buffer) < at + head + size:
                break
            opcode, payload = buffer[at], bytes(buffer[at + head : at + head + size])
            at += head + size
            if opcode == _TEXT:
                self._on_frame(payload.decode())
            elif opcode in {_PING, _CLOSE}:
                self._write(_PONG if opcode == _PING else _CLOSE, payload)
        del buffer[:at]

    def _write(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(bytes([opcode]) + length + b"\0\0\0\0" + payload)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a device behaves."""

    ack: str
    resumes: bool

    @property
    def name(self) -> str:
        return f"{self.ack}{', resumes' if self.resumes else ''}"


class Device:
    """One device that stays connected through everything, until `leave`."""

    def __init__(
        self, user: str, kind: Kind, urls: Callable[[], Sequence[str]], records: list[Subscribed], *, seed: int
    ) -> None:
        self.user = user
        self.kind = kind
        self.connections = 0
        self._name = f"{user} ({kind.name})"
        # Its own: what it draws does not depend on which device was quicker.
        self._random = Random(f"{seed} {self._name}")
        self._urls = urls
        self._records = records
        self._socket: WebSocket | None = None
        self._record: Subscribed | None = None
        self._last: StreamId | None = None
        self._to_ack: list[tuple[str, StreamId]] = []
        self._lost = asyncio.Event()
        self._task = asyncio.create_task(self._stay_connected())

    @property
    def subscribed(self) -> bool:
        return self._record is not None and self._record.subscribed_at is not None

    @property
    def newest(self) -> str:
        """The body of the newest message that the present subscription, or one before it, has got."""
        seen = [record.seen[-1] for record in self._records if record.device == self._name and record.seen]
        return max(seen, key=lambda each: each.id).body if seen else ""

    def break_off(self) -> None:
        """Cut the connection without a word."""
        if self._socket is not None and self._socket.transport is not None:
            self._socket.transport.abort()

    def acknowledge_all(self) -> None:
        """Acknowledge what was left over."""
        self._acknowledge(1)

    async def leave(self) -> None:
        """Go, after the judgement."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self.break_off()

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            urls = self._urls()
            if urls:
                host, _, port = self._random.choice(urls).removeprefix("ws://").partition("/")[0].partition(":")
                self._lost.clear()
                try:
                    async with asyncio.timeout(HANDSHAKE_WITHIN_S):
                        _, self._socket = await loop.create_connection(
                            lambda: WebSocket(self._receive, self._end), host, int(port)
                        )
                    await self._lost.wait()
                except (OSError, TimeoutError):
                    pass
            await asyncio.sleep(RETRY_S * (0.5 + self._random.random()))

    def _end(self) -> None:
        if self._record is not None:
            self._record.open = False
        self._record = self._socket = None
        self._to_ack.clear()
        self._lost.set()

    def _receive(self, text: str) -> None:
        head, _, body = text.partition("\n\n")
        command, *lines = head.strip("\n").split("\n")
        headers = dict(line.split(":", 1) for line in lines)
        if command == "MESSAGE":
            self._message(headers, body.rstrip("\0"))
        elif command == "OPEN":
            self._send(f"CONNECT\naccept-version:1.2\nhost:x\nlogin:{self.user}\n\n")
        elif command == "CONNECTED":
            self._subscribe()
        elif command == "RECEIPT" and self._record is not None:
            self._record.subscribed_at = time.monotonic()
            self._record.recovered = _recovered(headers)

    def _subscribe(self) -> None:
        self.connections += 1
        last = self._last if self.kind.resumes else None
        self._record = Subscribed(self._name, self.kind.ack != "auto", last, open=True)
        self._records.append(self._record)
        resume = "" if last is None else f"last-message-id:{last}\n"
        head = f"SUBSCRIBE\nid:0\nreceipt:0\ndestination:/user{DESTINATION}\nack:{self.kind.ack}\n"
        self._send(f"{head}{resume}\n")

    def _message(self, headers: dict[str, str], body: str) -> None:
        if self._record is None:
            return
        id_ = StreamId.parse(headers["message-id"])
        self._record.seen.append(Seen(id_, body, headers.get("redelivered") == "true", _recovered(headers)))
        self._last = id_ if self._last is None else max(self._last, id_)
        if self.kind.ack != "auto":
            self._to_ack.append((headers["ack"], id_))
            self._acknowledge(ACK_EVERY)

    def _acknowledge(self, at_least: int) -> None:
        if self._record is None or len(self._to_ack) < at_least:
            return
        self._record.handled.update(id_ for _, id_ in self._to_ack)
        acks = self._to_ack[-1:] if self.kind.ack == "client" else self._to_ack
        for ack, _ in acks:
            self._send(f"ACK\nid:{ack}\n\n")
        self._to_ack.clear()

    def _send(self, frame: str) -> None:
        if self._socket is not None:
            self._socket.send(f"{frame}\0")


def _recovered(headers: dict[str, str]) -> bool | None:
    value = headers.get("recovered")
    return None if value is None else value == "true"
