"""One case of what a client may say, said to a server, and what the server answered as one line of text."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from tests.support.stomp_client import ServerFrame, decode_frame

CASE_WITHIN_S: Final = 60.0
SENTINEL: Final = "sentinel"
STANDARD: Final = ("ack", "content-length", "content-type", "subscription")
"""Headers of MESSAGE whose presence is compared; `destination` and `message-id` must be there."""


@dataclass(frozen=True, slots=True)
class Push:
    """A back end sends a message to the case's destination, and the client waits for it."""

    body: bytes = b"m"


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The client cuts the connection and opens a new session."""


Step = str | bytes | tuple[bytes, ...] | Push | Reconnect
"""Text and bytes go out as one WebSocket message, a tuple as several. In them `{destination}` is the case's own,
`{ack0}` what acknowledges the first message, and so on."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is said, in which version; None: the case itself connects, with `{credentials}`."""

    name: str
    version: str | None
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Server:
    """Whom it is said to."""

    url: str
    credentials: Callable[[int], str]
    """Header lines of CONNECT for the case with this number."""
    destination: Callable[[int], str]
    push: Callable[[int, bytes], Awaitable[object]]


class Dialogue:
    """One case with one server."""

    def __init__(self, server: Server, number: int, case: Case, *, answer_within_s: float) -> None:
        """After `answer_within_s` a server has not answered. Both need milliseconds; a busy machine needs more."""
        self._server = server
        self._answer_within_s = answer_within_s
        self._number = number
        self._case = case
        self._frames: list[ServerFrame] = []
        self._messages: list[ServerFrame] = []
        self._receipts: list[str] = []
        self._changed = asyncio.Event()
        self._closed = False
        self._ended = ""
        self._version = case.version or "1.2"
        self._socket: ClientConnection
        self._reader: asyncio.Task[None]

    async def hold(self) -> str:
        """Say everything, and return what was answered."""
        try:
            async with asyncio.timeout(CASE_WITHIN_S):
                await self._open()
                for step in self._case.steps:
                    await self._do(step)
                    await self._until(self._answered)
                await self._end()
        except Exception as error:
            raise AssertionError(f"{self._server.url}: {self._case.name}: {self._frames}") from error
        answers = [_describe(frame) for frame in self._frames if frame.headers.get("receipt-id") != SENTINEL]
        return "; ".join([*answers, self._ended])

    async def _open(self) -> None:
        self._socket = await connect_websocket(self._server.url, compression=None, max_size=None, close_timeout=1)
        self._reader = asyncio.create_task(self._read())
        if self._case.version is not None:
            accept = "" if self._version == "1.0" else f"accept-version:{self._version}\n"
            await self._socket.send(f"CONNECT\n{accept}{self._server.credentials(self._number)}\n\0")
            await self._until(lambda: self._frames and self._frames[-1].command == "CONNECTED")
            assert self._frames.pop().command == "CONNECTED"

    async def _do(self, step: Step) -> None:
        if isinstance(step, Push):
            expected = len(self._messages) + 1
            await self._server.push(self._number, step.body)
            await self._until(lambda: len(self._messages) >= expected)
        elif isinstance(step, Reconnect):
            await self._socket.close()
            await self._reader
            self._closed = False
            await self._open()
        else:
            for piece in step if isinstance(step, tuple) else (step,):
                await self._send(piece)

    async def _send(self, piece: str | bytes) -> None:
        text = piece if isinstance(piece, str) else piece.decode("latin-1")
        text = text.replace("{destination}", self._server.destination(self._number))
        text = text.replace("{credentials}\n", self._server.credentials(self._number))
        for number, message in enumerate(self._messages):
            text = text.replace(f"{{ack{number}}}", message.headers.get("ack", message.headers["message-id"]))
        self._receipts += re.findall(r"^receipt:([^\\\r\n]+)\r?$", text, re.MULTILINE)
        try:
            await self._socket.send(text if isinstance(piece, str) else text.encode("latin-1"))
        except ConnectionClosed:
            self._closed = True

    async def _end(self) -> None:
        """Wait until nothing more will be answered: a later frame's RECEIPT has come, or the end, or nothing at all."""
        if self._case.version is not None and not self._closed:
            await self._send(f"BEGIN\ntransaction:{SENTINEL}\nreceipt:{SENTINEL}\n\n\0")
            await self._until(self._answered)
        await self._until(lambda: self._frames and self._frames[-1].command != "ERROR" and not self._said_goodbye())
        self._ended = "closed" if self._closed else "open"
        await self._socket.close()
        await self._reader

    def _said_goodbye(self) -> bool:
        return any(isinstance(step, str) and step.lstrip().startswith("DISCONNECT") for step in self._case.steps[-1:])

    def _answered(self) -> bool:
        told = {frame.headers.get("receipt-id") for frame in self._frames}
        return all(receipt in told for receipt in self._receipts)

    async def _until(self, condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(self._answer_within_s):
                while not condition() and not self._closed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def _read(self) -> None:
        try:
            async for data in self._socket:
                self._take(data.encode() if isinstance(data, str) else data)
        except ConnectionClosed:
            pass  # with another code than 1000 or 1001
        finally:
            self._closed = True
            self._changed.set()

    def _take(self, octets: bytes) -> None:
        if not octets.strip(b"\r\n"):
            return
        # web_stomp ends frames in NUL LF.
        frame = decode_frame(octets.rstrip(b"\n") if octets.endswith(b"\0\n") else octets, self._version)
        self._frames.append(frame)
        if frame.command == "MESSAGE":
            self._messages.append(frame)
        self._changed.set()


def _describe(frame: ServerFrame) -> str:
    headers = frame.headers
    match frame.command:
        case "CONNECTED":
            beat = headers.get("heart-beat", "")
            silent = "" if beat == "0,0" else f" heart-beat:{beat}"
            assert {"session", "server"} <= headers.keys()
            return f"CONNECTED {headers['version']}{silent}"
        case "MESSAGE":
            assert {"destination", "message-id"} <= headers.keys()
            extra = [name for name in STANDARD if name in headers]
            again = " redelivered" if headers.get("redelivered") == "true" else ""
            return f"MESSAGE {frame.body.decode()!r} with {', '.join(extra)}{again}"
        case "RECEIPT":
            return f"RECEIPT {headers['receipt-id']!r}"
        case "ERROR":
            assert "message" in headers
            named = f" for {headers['receipt-id']!r}" if "receipt-id" in headers else ""
            return f"ERROR{named}"
        case command:
            return command
