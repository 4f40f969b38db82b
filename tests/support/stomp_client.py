"""A small STOMP client over WebSocket for tests, with a codec of its own, so that a gateway's bugs are not hidden."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from tests.support.waiting import WITHIN_S

SUBPROTOCOLS: Final = {"1.2": "v12.stomp", "1.1": "v11.stomp", "1.0": "v10.stomp"}


class StompError(AssertionError):
    """The server sent an ERROR frame, or closed, where that was not expected."""

    def __init__(self, frame: "ServerFrame | None", close_code: int | None = None) -> None:
        text = "closed" if frame is None else f"ERROR {frame.headers} {frame.body.decode(errors='replace')}"
        super().__init__(f"{text} (close code {close_code})")
        self.frame = frame
        self.close_code = close_code


@dataclass(frozen=True)
class ServerFrame:
    """One frame from the server."""

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __getitem__(self, header: str) -> str:
        return self.headers[header]

    @property
    def text(self) -> str:
        return self.body.decode()


class StompClient:
    """One connection. Make it with `StompClient.connect`, or with `connected` as a context manager."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.version = "1.2"
        self.connected: ServerFrame = ServerFrame("")
        """The CONNECTED frame."""
        self.heart_beats = 0
        """Heart-beats that came from the server."""
        self.messages: asyncio.Queue[ServerFrame] = asyncio.Queue()
        self.receipts: dict[str, ServerFrame] = {}
        self._answers: asyncio.Queue[ServerFrame | None] = asyncio.Queue()
        self._error: ServerFrame | None = None
        self._receipts_asked = 0
        self._changed = asyncio.Event()
        self._ended = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        versions: Sequence[str] = ("1.2",),
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        max_queue: int | None = None,
    ) -> Self:
        """Open the WebSocket only. Raises what websockets raises."""
        socket = await connect_websocket(
            url,
            subprotocols=[SUBPROTOCOLS[version] for version in versions],  # type: ignore[misc]
            additional_headers=headers,
            origin=origin,  # type: ignore[arg-type]
            compression=None,
            max_size=None,
            max_queue=max_queue,
            ping_interval=None,
            close_timeout=2,
        )
        return cls(socket)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        login: str | None = None,
        versions: Sequence[str] = ("1.2",),
        heart_beat: tuple[int, int] = (0, 0),
        headers: Mapping[str, str] | None = None,
        within_s: float = WITHIN_S,
    ) -> Self:
        """Open the WebSocket and the STOMP session; raises StompError when it is refused."""
        client = await cls.open(url, versions=versions)
        extra = dict(headers or {})
        if token is not None:
            extra["Authorization"] = f"Bearer {token}"
        if login is not None:
            extra["login"] = login
        if tuple(versions) != ("1.0",):
            extra |= {"accept-version": ",".join(versions), "heart-beat": f"{heart_beat[0]},{heart_beat[1]}"}
        try:
            await client.send("CONNECT", {"host": "test", **extra})
            client.connected = await client.next_answer(within_s)
            assert client.connected.command == "CONNECTED", client.connected
        except BaseException:
            await client.close()
            raise
        client.version = client.connected.headers.get("version", "1.0")
        return client

    @property
    def session(self) -> str:
        return self.connected["session"]

    @property
    def gateway(self) -> str:
        return self.connected["gateway"]

    @property
    def user_name(self) -> str:
        return self.connected["user-name"]

    async def subscribe(
        self,
        destination: str,
        *,
        id: str = "0",  # noqa: A002 - the header's name
        ack: str = "auto",
        last_message_id: str | None = None,
        receipt: bool = True,
        within_s: float = WITHIN_S,
    ) -> ServerFrame | None:
        """Subscribe; with `receipt`, wait for the RECEIPT and return it."""
        headers = {"destination": destination, "id": id, "ack": ack}
        if last_message_id is not None:
            headers["last-message-id"] = last_message_id
        return await self._send_with_receipt("SUBSCRIBE", headers, receipt=receipt, within_s=within_s)

    async def unsubscribe(self, id: str = "0", *, receipt: bool = True) -> ServerFrame | None:  # noqa: A002
        return await self._send_with_receipt("UNSUBSCRIBE", {"id": id}, receipt=receipt)

    async def ack(self, message: ServerFrame, *, transaction: str | None = None, receipt: bool = False) -> None:
        await self._settle("ACK", message, transaction, receipt=receipt)

    async def nack(self, message: ServerFrame, *, transaction: str | None = None, receipt: bool = False) -> None:
        await self._settle("NACK", message, transaction, receipt=receipt)

    async def begin(self, transaction: str) -> None:
        await self._send_with_receipt("BEGIN", {"transaction": transaction}, receipt=True)

    async def commit(self, transaction: str) -> None:
        await self._send_with_receipt("COMMIT", {"transaction": transaction}, receipt=True)

    async def abort(self, transaction: str) -> None:
        await self._send_with_receipt("ABORT", {"transaction": transaction}, receipt=True)

    async def next_message(self, within_s: float = WITHIN_S) -> ServerFrame:
        """Return the next MESSAGE; raises StompError when the server ends the connection instead."""
        await self._wait(lambda: not self.messages.empty(), within_s, "no MESSAGE")
        return self.messages.get_nowait()

    async def next_messages(self, count: int, within_s: float = WITHIN_S) -> list[ServerFrame]:
        return [await self.next_message(within_s) for _ in range(count)]

    async def no_message(self, for_s: float = 0.3) -> None:
        """Fail when a MESSAGE comes within this time."""
        await asyncio.sleep(for_s)
        assert self.messages.empty(), f"unexpected {self.messages.get_nowait()}"

    async def next_answer(self, within_s: float = WITHIN_S) -> ServerFrame:
        """Return the next frame that is neither MESSAGE nor RECEIPT; raises StompError for ERROR and close."""
        async with asyncio.timeout(within_s):
            frame = await self._answers.get()
        if frame is None or frame.command == "ERROR":
            raise StompError(frame, self.socket.close_code)
        return frame

    async def expect_error(self, within_s: float = WITHIN_S) -> ServerFrame:
        """Return the ERROR frame, once the server has also closed; the close code is in `close_code`."""
        await self.wait_closed(within_s)
        assert self._error is not None, f"closed without ERROR, code {self.socket.close_code}"
        return self._error

    async def wait_closed(self, within_s: float = WITHIN_S) -> int:
        """Wait until the server has closed; return the close code."""
        async with asyncio.timeout(within_s):
            await asyncio.shield(self._reader)
        return self.close_code

    @property
    def close_code(self) -> int:
        code = self.socket.close_code
        assert code is not None
        return code

    @property
    def closed(self) -> bool:
        return self._ended

    async def has_been_read(self) -> None:
        """Return when the server has read all that was sent: it answers a ping that comes after it."""
        await (await self.socket.ping())

    async def disconnect(self) -> None:
        """Leave politely: DISCONNECT, its RECEIPT, close."""
        await self._send_with_receipt("DISCONNECT", {}, receipt=True)
        await self.close()

    async def close(self) -> None:
        """Close the WebSocket."""
        await self.socket.close()
        await self._reader

    async def abort_socket(self) -> None:
        """Cut the TCP connection without a word."""
        self.socket.transport.abort()
        await self._reader

    async def send(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send any frame."""
        escape = command not in {"CONNECT", "STOMP"} and self.version != "1.0"
        lines = [command]
        for name, value in headers.items():
            lines.append(f"{_escape(name)}:{_escape(value)}" if escape else f"{name}:{value}")
        await self.send_raw("\n".join([*lines, "", ""]).encode() + body + b"\0")

    async def send_raw(self, data: bytes | str) -> None:
        """Send bytes as one WebSocket message: text for str, and for bytes that are UTF-8."""
        if isinstance(data, bytes):
            try:
                await self.socket.send(data.decode())
            except UnicodeDecodeError:
                await self.socket.send(data)
        else:
            await self.socket.send(data)

    async def wait_receipt(self, receipt: str, within_s: float = WITHIN_S) -> ServerFrame:
        await self._wait(lambda: receipt in self.receipts, within_s, f"no RECEIPT {receipt}")
        return self.receipts[receipt]

    async def _settle(self, command: str, message: ServerFrame, transaction: str | None, *, receipt: bool) -> None:
        if self.version == "1.2":
            headers = {"id": message["ack"]}
        else:
            headers = {"message-id": message["message-id"]}
            if "subscription" in message.headers:
                headers["subscription"] = message["subscription"]
        if transaction is not None:
            headers["transaction"] = transaction
        await self._send_with_receipt(command, headers, receipt=receipt)

    async def _send_with_receipt(
        self, command: str, headers: dict[str, str], *, receipt: bool, within_s: float = WITHIN_S
    ) -> ServerFrame | None:
        if not receipt:
            await self.send(command, headers)
            return None
        self._receipts_asked += 1
        name = f"r{self._receipts_asked}"
        await self.send(command, {**headers, "receipt": name})
        return await self.wait_receipt(name, within_s)

    async def _wait(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    if self._ended:
                        raise StompError(self._error, self.socket.close_code)
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what} within {within_s} s") from None

    async def _read(self) -> None:
        try:
            async for data in self.socket:
                self._receive(data.encode() if isinstance(data, str) else data)
        except ConnectionClosed:
            pass
        finally:
            self._ended = True
            self._answers.put_nowait(None)
            self._changed.set()

    def _receive(self, data: bytes) -> None:
        if not data.strip(b"\r\n"):
            self.heart_beats += 1
            return
        frame = decode_frame(data, self.version)
        if frame.command == "MESSAGE":
            self.messages.put_nowait(frame)
        elif frame.command == "RECEIPT":
            self.receipts[frame["receipt-id"]] = frame
        else:
            if frame.command == "ERROR":
                self._error = frame
            self._answers.put_nowait(frame)
        self._changed.set()


@asynccontextmanager
async def connected(url: str, **options: object) -> AsyncIterator[StompClient]:
    """Connect, and close at the end of the block."""
    client = await StompClient.connect(url, **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace(":", "\\c")


def decode_frame(data: bytes, version: str) -> ServerFrame:
    """One WebSocket message of this server is one frame."""
    head, blank, rest = data.partition(b"\n\n")
    assert blank, f"no blank line in {data!r}"
    command, *lines = head.decode().split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon, f"header line {line!r}"
        if command != "CONNECTED" and version != "1.0":
            name, value = _unescape(name), _unescape(value)
        headers.setdefault(name, value)
    size = int(headers.get("content-length", len(rest) - 1))
    assert rest[size:] == b"\0", f"frame does not end with NUL after {size} bytes: {data!r}"
    return ServerFrame(command, headers, rest[:size])


def _unescape(text: str) -> str:
    octets = {"n": "\n", "r": "\r", "c": ":", "\\": "\\"}
    characters = iter(text)
    return "".join(octets[next(characters)] if character == "\\" else character for character in characters)
